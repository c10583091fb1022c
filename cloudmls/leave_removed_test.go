package cloudmls

import (
	"errors"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestLeavesWhileSomebodyIsRemoved: Carol asks to leave, having seen nothing of the
// Commit by which Alice removes Bob at that moment. What reaches Bob of a group that
// he was in is no refused handshake; of a later epoch it would be. (Model test, seed
// 1088927.)
func TestLeavesWhileSomebodyIsRemoved(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := newTrio(t)
	raced := false
	w.wire.set(nil, func(e *exchange) {
		if !raced && e.is("GET", "/v1/delivery/email/"+carol.self.ID) {
			raced = true
			if err := alice.Remove(t.Context(), alice.self, id, accounts(bob)); err != nil {
				t.Error(err)
			}
		}
	})
	if err := carol.Leave(t.Context(), carol.self, id); err != nil || !raced {
		t.Fatalf("raced: %v, %v", raced, err)
	}
	w.wire.set(nil, nil)
	r := bob.cleanSync()
	if r.Processed != 2 || len(r.Removed) != 1 {
		t.Fatalf("a removal and a notice: %+v", r)
	}
	group := bob.state(id).group(t, bob)
	for name, d := range map[string]keyapi.Delivery{
		"of a later epoch":  {Group: group, Epoch: bob.state(id).Epoch + 1},
		"of another group":  {Group: []byte("another"), Epoch: 0},
		"of an epoch there": {Group: group, Epoch: bob.state(id).Epoch},
	} {
		d.Type, d.Conversation, d.Sender = keyapi.DeliveryNotice, id[:], carol.self
		err := bob.processNotice(bob.reader(t.Context(), bob.self), &d, &SyncResult{})
		var no *refusal
		if refused := errors.As(err, &no) && no.kind == ProblemUnknownGroup; refused != (name != "of an epoch there") {
			t.Errorf("a notice %s: %v", name, err)
		}
	}
}
