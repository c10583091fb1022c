package cloudmls

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestHeldWelcomesAreBounded: Welcomes that wait until another identity key is
// accepted have room in the inbox record together. The oldest make room, told;
// nothing that others send makes a record that cannot be stored, which would stop
// the account for good.
func TestHeldWelcomesAreBounded(t *testing.T) {
	t.Parallel()
	alice := account("alice")
	r := &inboxRecord{Version: recordVersion}
	welcome := func(seq uint64, size int) *keyapi.Delivery {
		return &keyapi.Delivery{Seq: seq, Conversation: make([]byte, 16), Sender: alice, Message: make([]byte, size)}
	}
	told := 0
	for i := range uint64(3 * maxHeld) {
		told += len(r.hold(welcome(i, maxHeldSize), alice))
		if r.heldSize() > maxHeldTotal {
			t.Fatalf("%d octets are held", r.heldSize())
		}
	}
	if want := maxHeldTotal / maxHeldSize; len(r.Held) != want || told != 3*maxHeld-want || r.Held[0].Seq != uint64(3*maxHeld-want) {
		t.Errorf("%d are held, from %d on, and %d told; want the last %d", len(r.Held), r.Held[0].Seq, told, want)
	}
	last := r.Held[len(r.Held)-1].Seq
	if p := r.hold(welcome(999, maxHeldSize+1), alice); len(p) != 1 || p[0].Seq != 999 || p[0].Kind != ProblemForbidden || p[0].Err == nil ||
		r.Held[len(r.Held)-1].Seq != last {
		t.Errorf("one that is too large: %+v", p)
	}
	r = &inboxRecord{Version: recordVersion}
	for i := range uint64(maxHeld) {
		r.hold(welcome(i, 1), alice)
	}
	if p := r.hold(welcome(999, 1), alice); len(r.Held) != maxHeld || len(p) != 1 || p[0].Seq != 0 || p[0].Sender != alice {
		t.Errorf("%d small ones are held, %+v", len(r.Held), p)
	}
}

// TestHeldWelcomesDoNotBlock: the same where a Sync holds one more than a record
// has room for.
func TestHeldWelcomesDoNotBlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	err := bob.update(t.Context(), bob.self, func(_ *state.Tx, v *view) error {
		inbox, err := v.inbox()
		if err != nil {
			return err
		}
		for len(inbox.Held) < 11 { // nearly 15 MiB in base64
			inbox.Held = append(inbox.Held, heldDelivery{
				Conversation: []byte(fmt.Sprintf("conversation %2d ", len(inbox.Held)))[:16], Message: make([]byte, maxHeldSize), Changed: alice.self,
			})
		}
		return v.put(inboxKey(bob.self), inbox)
	})
	if err != nil {
		t.Fatal(err)
	}
	f := w.forger()
	f.ballast = 900_000
	d, _ := f.welcome(alice.self, binding{kind: KindDialog, conversation: id, origin: w.ks.Origin}, bob)
	r := w.deliver(bob, mallory, d)
	if !hasProblem(r, ProblemIdentityChanged) || !hasProblem(r, ProblemForbidden) {
		t.Errorf("%+v", r.Problems)
	}
	inbox, err := bob.reader(t.Context(), bob.self).inbox()
	if err != nil || inbox.heldSize() > maxHeldTotal || !slices.ContainsFunc(inbox.Held, func(h heldDelivery) bool { return string(h.Group) == string(d.Group) }) {
		t.Errorf("%d octets are held, %v", inbox.heldSize(), err)
	}
	mallory.mustSync()
	other := bob.ensureDialog(mallory)
	mallory.mustSync()
	mallory.reads(bob.encrypt(other, "goes on"), "goes on", bob)
}
