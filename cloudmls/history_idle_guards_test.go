package cloudmls

import (
	"errors"
	"testing"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestThreat43_EndsOnlyWhatIsIdle: an epoch is ended, and a group that was left is
// forgotten, only where it is the present one and old enough; what keeps that from
// being done is told.
func TestThreat43_EndsOnlyWhatIsIdle(t *testing.T) {
	t.Parallel()
	w, alice, bob, carol, id := newTrio(t)
	i := carol.purgeable(id)
	other := *i
	other.group = []byte("another")
	epoch := func() uint64 { return carol.conversationRecord(id).Epoch }
	end := func(i *instance) error { return carol.endIdle(t.Context(), carol.self, i, w.clock.now()) }
	if err := end(&instance{conversation: newID(t), group: i.group}); !errors.Is(err, ErrNoConversation) {
		t.Errorf("no conversation: %v", err)
	}
	if err := end(i); err != nil || epoch() != 1 {
		t.Errorf("an epoch of today: %v, epoch %d", err, epoch())
	}
	w.clock.advance(8 * day)
	for _, d := range []*device{alice, bob, carol} {
		d.mustSync()
	}
	if err := end(&other); err != nil || epoch() != 1 {
		t.Errorf("another group: %v, epoch %d", err, epoch())
	}
	refuse := func(e *exchange) bool {
		if !e.is("POST", "/v1/tx") {
			return false
		}
		e.refuse(t, &keyapi.Problem{Status: 403, Code: keyapi.CodeForbidden})
		return true
	}
	w.wire.set(refuse, nil)
	if err := end(i); !isCode(err, keyapi.CodeForbidden) || epoch() != 1 {
		t.Errorf("refused: %v, epoch %d", err, epoch())
	}
	w.wire.set(nil, nil)
	if err := end(i); err != nil || epoch() != 2 {
		t.Errorf("an idle one: %v, epoch %d", err, epoch())
	}

	if err := carol.Leave(t.Context(), carol.self, id); err != nil {
		t.Fatal(err)
	}
	removed := func() bool { return carol.conversationRecord(id).Removed != 0 }
	if err := end(i); err == nil || removed() {
		t.Errorf("left today: %v, removed %v", err, removed())
	}
	w.clock.advance(8 * day)
	if err := end(&other); err == nil || removed() {
		t.Errorf("left, another group: %v, removed %v", err, removed())
	}
	w.wire.set(refuse, nil)
	if err := end(i); !isCode(err, keyapi.CodeForbidden) || removed() {
		t.Errorf("left, refused: %v, removed %v", err, removed())
	}
	w.wire.set(nil, nil)
	phone, raced := carol.sibling(), false
	w.wire.set(func(e *exchange) bool {
		if raced || !e.is("POST", "/v1/tx") {
			return false
		}
		raced = true
		phone.change(func(_ *state.Tx, v *view) error {
			now, err := v.conversation(id)
			if err != nil {
				return err
			}
			now.Broken = "for the test"
			return v.put(conversationKey(v.self, id), now)
		})
		return false
	}, nil)
	if err := end(i); err != nil || removed() || !raced {
		t.Errorf("left, and a sibling device was there: raced %v, %v, removed %v", raced, err, removed())
	}
	w.wire.set(nil, nil)
	if err := end(i); err != nil || !removed() {
		t.Errorf("left: %v, removed %v", err, removed())
	}
	w.clock.advance(8 * day)
	if err := end(i); !errors.Is(err, ErrNotMember) {
		t.Errorf("left, and out: %v", err)
	}
}

// TestThreat43_DropsTheLiveGroup that is there; whether one is must be known.
func TestThreat43_DropsTheLiveGroup(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]error{state.ErrNotFound: nil, errDead: errDead} {
		v := &view{self: account("alice"), source: func(state.Key) ([]byte, error) { return nil, err }, puts: map[state.Key][]byte{}}
		if got := v.dropLive(&conversationRecord{Group: []byte("group"), Epoch: 3}); !errors.Is(got, want) || len(v.puts) != 0 {
			t.Errorf("%v: %v, %d writes", err, got, len(v.puts))
		}
	}
}
