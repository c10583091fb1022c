package cloudmls

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// newDeadEnd is a dialog in which Bob is with whoever has the identity key that Alice
// has replaced; before says that there was a dialog with her under that key.
func newDeadEnd(t *testing.T, w *world, before bool) *retiredDialog {
	t.Helper()
	x := &retiredDialog{w: w, alice: w.user("alice"), bob: w.user("bob"), mallory: w.user("mallory")}
	x.id = groupid.Dialog(PlatformEmail, x.alice.self.ID, x.bob.self.ID)
	who, err := x.alice.identity(t.Context(), x.alice.self)
	if err != nil {
		t.Fatal(err)
	}
	x.stolen = w.forger()
	x.stolen.identity = who.private()
	if before {
		x.alice.ensureDialog(x.bob)
		x.bob.cleanSync()
	}
	if err := x.bob.AcceptIdentity(t.Context(), x.bob.self, x.alice.self, x.alice.ownKey()); err != nil {
		t.Fatal(err)
	}
	if err := x.alice.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	x.bobHears()
	if r := x.w.deliver(x.bob, x.mallory, x.forged()); !slices.Contains(r.Joined, x.id) {
		t.Fatalf("the attack does not begin: %+v", r)
	}
	x.bob.mustSync()
	x.alice.mustSync()
	return x
}

// beginsAnew checks that Bob's dialog is with Alice, in another group than before, and
// that he was told once.
func (x *retiredDialog) beginsAnew(before []byte) {
	t := x.w.t
	t.Helper()
	if bytes.Equal(x.bob.state(x.id).group(t, x.bob), before) {
		t.Fatal("the dialog is what it was")
	}
	x.alice.mustSync()
	x.alice.reads(x.bob.encrypt(x.id, "to Alice"), "to Alice", x.bob)
	x.bob.reads(x.alice.encrypt(x.id, "an answer"), "an answer", x.alice)
	x.bob.nothingStaged()
	status, err := x.bob.Status(t.Context(), x.bob.self)
	if err != nil {
		t.Fatal(err)
	}
	own := 0
	for _, n := range status.Notices {
		if n.Kind == NoticeReplaced && n.Conversation == x.id && n.Account == (Account{}) {
			own++
		}
	}
	if own != 1 {
		t.Errorf("told %d times that this account made another group: %+v", own, status.Notices)
	}
}

func (x *retiredDialog) wanted(omitted Omitted) Conversation {
	return Conversation{Kind: KindDialog, Members: []Account{x.alice.self}, Omitted: omitted}
}

// TestThreat44_EveryWayOutOfADeadEnd: whichever way a program has of bringing a dialog
// in order begins it anew, where deliveries and sealed objects are apart as well.
func TestThreat44_EveryWayOutOfADeadEnd(t *testing.T) {
	t.Parallel()
	ways := map[string]func(x *retiredDialog) error{
		"Ensure": func(x *retiredDialog) error {
			_, err := x.bob.Ensure(x.w.t.Context(), x.bob.self, x.wanted(OmittedLeave))
			return err
		},
		"Update": func(x *retiredDialog) error {
			m, err := x.bob.Update(x.w.t.Context(), x.bob.self, x.wanted(OmittedLeave))
			if err == nil && (!m.Complete || !m.Encrypted || len(m.Missing) != 0) {
				x.w.t.Errorf("%+v", m)
			}
			return err
		},
		"Replace": func(x *retiredDialog) error {
			_, err := x.bob.Replace(x.w.t.Context(), x.bob.self, x.id)
			return err
		},
	}
	worlds := map[string]func(*testing.T) *world{
		"one server": newWorld, "three servers": func(t *testing.T) *world { return newApart(t).world },
	}
	for way, out := range ways {
		for servers, world := range worlds {
			for name, before := range map[string]bool{"no dialog before": false, "one before": true} {
				t.Run(way+", "+servers+", "+name, func(t *testing.T) {
					t.Parallel()
					x := newDeadEnd(t, world(t), before)
					group := x.bob.state(x.id).group(t, x.bob)
					if way != "Replace" { // which waits for nobody
						if err := out(x); err != nil || !bytes.Equal(x.bob.state(x.id).group(t, x.bob), group) {
							t.Fatalf("Alice's devices are not waited for: %v", err)
						}
					}
					x.w.clock.advance(2 * time.Hour)
					if err := out(x); err != nil {
						t.Fatal(err)
					}
					x.beginsAnew(group)
				})
			}
		}
	}
}

// TestThreat44_DeadEndIsNotComplete: a dead end that cannot be left, since the key server
// has no KeyPackage, is not what the platform's list asks for: who is in it is not Alice.
func TestThreat44_DeadEndIsNotComplete(t *testing.T) {
	t.Parallel()
	x := newDeadEnd(t, newWorld(t), false)
	x.w.clock.advance(2 * time.Hour)
	none := encodeJSON(t, keyapi.Problem{Status: 404, Code: keyapi.CodeNoKeyPackage})
	x.w.wire.fail(func(e *exchange) bool { return e.is("POST", "/v1/keypackages/") }, func(e *exchange) {
		e.status, e.answered, e.header = 404, none, "application/problem+json"
	})
	m, err := x.bob.Update(t.Context(), x.bob.self, x.wanted(OmittedLeave))
	if err != nil {
		t.Fatal(err)
	}
	if m.Complete || !m.Encrypted || len(m.Missing) != 1 || m.Missing[0].Account != x.alice.self || m.Missing[0].Err == nil {
		t.Errorf("%+v", m)
	}
	var missing *MissingKeyPackagesError
	if _, err := x.bob.Ensure(t.Context(), x.bob.self, x.wanted(OmittedLeave)); !errors.As(err, &missing) {
		t.Errorf("got %v", err)
	}
}

// TestDeadEndsAreDialogs: a group that shows a retired key is in order with nobody's
// help, and needs no network to say so: whoever else is in it can go on.
func TestDeadEndsAreDialogs(t *testing.T) {
	t.Parallel()
	x := newDeadEnd(t, newWorld(t), true)
	id := newID(t)
	d, _ := x.stolen.welcome(x.alice.self, binding{kind: KindGroup, conversation: id, origin: x.w.ks.Origin}, x.bob)
	x.w.deliver(x.bob, x.mallory, d)
	x.w.clock.advance(2 * time.Hour)
	x.w.wire.fail(anything, faults["down"])
	want := Conversation{ID: id, Kind: KindGroup, Members: []Account{x.alice.self}}
	if st, err := x.bob.Ensure(t.Context(), x.bob.self, want); err != nil || !bytes.Equal(st.group(t, x.bob), d.Group) {
		t.Errorf("%+v, %v", st, err)
	}
	if m, err := x.bob.Update(t.Context(), x.bob.self, want); err != nil || !m.Complete {
		t.Errorf("%+v, %v", m, err)
	}
}

// TestDeadEndOfALearnedKey: of a key that was replaced before its owner was first seen
// here, the time is not known; their devices are waited for from then on.
func TestDeadEndOfALearnedKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	shown := alice.ownKey()
	err := bob.update(t.Context(), bob.self, func(_ *state.Tx, v *view) error {
		contacts, err := v.contacts()
		if err != nil {
			return err
		}
		p := contacts.find(alice.self)
		p.Key, p.Since, p.Former = bytes.Repeat([]byte{7}, 32), w.clock.now().UnixMilli(), []formerKey{{Key: shown, Rotated: true}}
		return v.put(contactsKey(bob.self), contacts)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{false, true} {
		conv, err := bob.reader(t.Context(), bob.self).conversation(id)
		if err != nil {
			t.Fatal(err)
		}
		if dead, err := bob.deadEnd(t.Context(), bob.self, conv); dead != want || err != nil {
			t.Errorf("at %v: %v, %v", w.clock.now(), dead, err)
		}
		w.clock.advance(renewWithin)
	}
}
