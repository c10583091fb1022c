package cloudmls

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// retiredDialog is a dialog that somebody makes in Alice's name who has the identity
// key that she has replaced, as a delivery for Bob.
type retiredDialog struct {
	w                   *world
	alice, bob, mallory *device
	id                  ConversationID
	stolen              *forger
}

func newRetiredDialog(t *testing.T) *retiredDialog {
	t.Helper()
	w := newWorld(t)
	x := &retiredDialog{w: w, alice: w.user("alice"), bob: w.user("bob"), mallory: w.user("mallory")}
	x.id = groupid.Dialog(PlatformEmail, x.alice.self.ID, x.bob.self.ID)
	who, err := x.alice.identity(t.Context(), x.alice.self)
	if err != nil {
		t.Fatal(err)
	}
	x.stolen = w.forger()
	x.stolen.identity = who.private()
	return x
}

func (x *retiredDialog) forged() *keyapi.Delivery {
	d, _ := x.stolen.welcome(x.alice.self, binding{kind: KindDialog, conversation: x.id, origin: x.w.ks.Origin}, x.bob)
	return d
}

// bobHears of the key that Alice has now.
func (x *retiredDialog) bobHears() {
	x.w.t.Helper()
	if _, err := x.bob.Reach(x.w.t.Context(), x.bob.self, x.alice.self); err != nil {
		x.w.t.Fatal(err)
	}
	if p := x.bob.pinnedKey(x.alice.self); !bytes.Equal(p.Key, x.alice.ownKey()) {
		x.w.t.Fatalf("Bob has not followed the rotation: %+v", p)
	}
}

// TestThreat44_RetiredKeyWaitsForNoOther: Alice has replaced her key twice, and Bob's
// dialog shows the newest one, which the key server has not confirmed to Bob yet. Who
// has the first one does not put a dialog in its place meanwhile.
func TestThreat44_RetiredKeyWaitsForNoOther(t *testing.T) {
	t.Parallel()
	x := newRetiredDialog(t)
	x.alice.ensureDialog(x.bob)
	x.bob.cleanSync()
	rotate := func() {
		x.w.clock.advance(time.Minute)
		if err := x.alice.Rotate(t.Context(), RotateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	rotate()
	x.bob.cleanSync()
	x.bobHears()
	rotate()
	x.w.wire.fail(func(e *exchange) bool { return e.is("GET", "/v1/reachable/") }, faults["500 page"])
	x.bob.mustSync()
	if p := x.bob.pinnedKey(x.alice.self); !bytes.Equal(p.Next, x.alice.ownKey()) {
		t.Fatalf("the attack does not begin: %+v", p)
	}
	group := x.bob.state(x.id).group(t, x.bob)
	x.w.wire.set(nil, nil)
	before := x.forged()
	if r := x.w.deliver(x.bob, x.mallory, before); slices.Contains(r.Joined, x.id) || !hasProblem(r, ProblemIdentityChanged) {
		t.Errorf("%+v", r)
	}
	if !bytes.Equal(x.bob.state(x.id).group(t, x.bob), group) {
		t.Fatal("the dialog was replaced")
	}
	x.alice.reads(x.bob.encrypt(x.id, "on"), "on", x.bob)
}

// TestThreat44_RetiredKeyTakesNoLaterOnesPlace: neither where the dialog shows a key
// that was replaced, too, but later.
func TestThreat44_RetiredKeyTakesNoLaterOnesPlace(t *testing.T) {
	t.Parallel()
	x := newRetiredDialog(t)
	x.alice.ensureDialog(x.bob)
	x.bob.cleanSync()
	if err := x.alice.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	x.bob.cleanSync()
	x.bobHears()
	x.w.clock.advance(time.Minute)
	if err := x.alice.rotateIdentity(t.Context(), x.alice.self, x.w.clock.now().UnixMilli()); err != nil {
		t.Fatal(err)
	}
	x.bobHears()
	group := x.bob.state(x.id).group(t, x.bob)
	if r := x.w.deliver(x.bob, x.mallory, x.forged()); slices.Contains(r.Joined, x.id) || !hasProblem(r, ProblemIdentityChanged) {
		t.Errorf("%+v", r)
	}
	if !bytes.Equal(x.bob.state(x.id).group(t, x.bob), group) {
		t.Error("the dialog was replaced")
	}
}

// TestThreat44_DialogOfARetiredKeyIsNoDeadEnd: a key server has passed on a dialog of
// whoever has the key that Alice replaced, and she is not in it to renew it. When Bob
// writes, the dialog begins anew with her present key, be the key server honest from
// then on.
func TestThreat44_DialogOfARetiredKeyIsNoDeadEnd(t *testing.T) {
	t.Parallel()
	for name, dialog := range map[string]bool{"no dialog before": false, "one that shows the key before": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newDeadEnd(t, newWorld(t), dialog)
			var changed *IdentityChangedError
			if _, err := x.bob.Encrypt(t.Context(), x.bob.self, x.id, []byte("to whom?"), nil); !errors.As(err, &changed) || !changed.Retired {
				t.Fatalf("got %v", err)
			}
			group := x.bob.state(x.id).group(t, x.bob)
			x.bob.ensureDialog(x.alice)
			if !bytes.Equal(x.bob.state(x.id).group(t, x.bob), group) {
				t.Error("Alice's devices are not waited for")
			}
			x.w.clock.advance(2 * time.Hour)
			x.bob.ensureDialog(x.alice)
			x.alice.mustSync()
			x.alice.reads(x.bob.encrypt(x.id, "to Alice"), "to Alice", x.bob)
			x.bob.reads(x.alice.encrypt(x.id, "an answer"), "an answer", x.alice)
		})
	}
}
