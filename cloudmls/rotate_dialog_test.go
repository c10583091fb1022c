package cloudmls

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/groupid"
)

// TestThreat44_DialogOlderThanTheRotation: Alice began a dialog and then replaced her
// identity key; Bob hears of the key before he takes the Welcome in. He enters, for
// nobody else would ever bring him what is written there. (Model test, seed 1076107.)
func TestThreat44_DialogOlderThanTheRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	if _, err := bob.Reach(t.Context(), bob.self, alice.self); err != nil {
		t.Fatal(err)
	}
	dialog := alice.ensureDialog(bob)
	early := alice.encrypt(dialog, "before the rotation")
	if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	if r, err := bob.Reach(t.Context(), bob.self, alice.self); err != nil || !bytes.Equal(r.IdentityKey, alice.ownKey()) {
		t.Fatalf("%+v, %v", r, err)
	}
	if p, err := bob.pin(t.Context(), bob.self, alice.self); err != nil || !bytes.Equal(p.Key, alice.ownKey()) {
		t.Fatalf("Bob has not followed the rotation: %+v, %v", p, err)
	}
	if r := bob.cleanSync(); !slices.Contains(r.Joined, dialog) {
		t.Fatalf("Bob does not enter: %+v", r)
	}
	if s := bob.state(dialog); s.Blocked != nil || s.Epoch != alice.state(dialog).Epoch {
		t.Errorf("after Alice's devices have renewed her leaf: %+v", s)
	}
	// Who has the key before could have written that, so it has a warning.
	if p := bob.decrypt(early); string(p.Data) != "before the rotation" || !slices.Contains(p.Warnings, WarningIdentityChanged) {
		t.Errorf("%q, %v", p.Data, p.Warnings)
	}
	bob.reads(alice.encrypt(dialog, "after it"), "after it", alice)
	alice.reads(bob.encrypt(dialog, "an answer"), "an answer", bob)
}

// TestThreat44_RetiredKeyTakesNoDialog: who has stolen the key that Alice replaced
// makes a dialog in her name, and the key server passes the Welcome on. Bob writes
// nothing there, and where he has a dialog with Alice it is not replaced by it.
func TestThreat44_RetiredKeyTakesNoDialog(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		dialog  bool // that Bob has with Alice
		broken  bool // which Alice was asked to let Bob in again to
		renewed bool // with a leaf of Alice's present key
		joins   bool
		// A group of Mallory's has the id that the dialog would have.
		squatted bool
	}{
		"no dialog before":              {joins: true},
		"a dialog":                      {dialog: true, renewed: true},
		"one that Bob lost track of":    {dialog: true, broken: true},
		"a group that had taken its id": {squatted: true, joins: true},
		"one that shows the key before": {dialog: true, joins: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob, mallory := w.user("alice"), w.user("bob"), w.user("mallory")
			who, err := alice.identity(t.Context(), alice.self)
			if err != nil {
				t.Fatal(err)
			}
			f := w.forger()
			f.identity = who.private()
			id := groupid.Dialog(PlatformEmail, alice.self.ID, bob.self.ID)
			var group []byte
			if tt.dialog {
				alice.ensureDialog(bob)
				bob.cleanSync()
				group = bob.state(id).group(t, bob)
			}
			if err := bob.AcceptIdentity(t.Context(), bob.self, alice.self, alice.ownKey()); err != nil {
				t.Fatal(err)
			}
			if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil {
				t.Fatal(err)
			}
			if tt.renewed {
				bob.cleanSync()
			}
			if _, err := bob.Reach(t.Context(), bob.self, alice.self); err != nil {
				t.Fatal(err)
			}
			if p, err := bob.pin(t.Context(), bob.self, alice.self); err != nil || !bytes.Equal(p.Key, alice.ownKey()) {
				t.Fatalf("Bob has not followed the rotation: %+v, %v", p, err)
			}
			if tt.squatted {
				mallory.ensureGroup(id, bob)
				bob.cleanSync()
			}
			if tt.broken {
				conv, err := bob.reader(t.Context(), bob.self).conversation(id)
				if err == nil {
					err = bob.withheld(t.Context(), bob.self, conv)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			d, evil := f.welcome(alice.self, binding{kind: KindDialog, conversation: id, origin: w.ks.Origin}, bob)
			r := w.deliver(bob, mallory, d)
			if joined := slices.Contains(r.Joined, id); joined != tt.joins || joined == hasProblem(r, ProblemIdentityChanged) {
				t.Fatalf("joined: %v, %+v", joined, r)
			}
			inbox, err := bob.reader(t.Context(), bob.self).inbox()
			if err != nil || len(inbox.Held) != 0 {
				t.Errorf("held: %+v, %v", inbox.Held, err)
			}
			if p, err := bob.pin(t.Context(), bob.self, alice.self); err != nil || !bytes.Equal(p.Key, alice.ownKey()) || p.Changed != nil {
				t.Errorf("the key before is offered to be accepted: %+v, %v", p, err)
			}
			if !tt.joins {
				if got := bob.state(id).group(t, bob); !bytes.Equal(got, group) {
					t.Errorf("the dialog was replaced")
				}
				return
			}
			var changed *IdentityChangedError
			if s := bob.state(id); !bytes.Equal(s.group(t, bob), []byte(evil.ID())) || !errors.As(s.Blocked, &changed) || !changed.Retired {
				t.Errorf("%+v", s)
			}
			if b, err := bob.Encrypt(t.Context(), bob.self, id, []byte("to whom?"), nil); b != nil || !errors.As(err, &changed) || !changed.Retired {
				t.Errorf("Bob writes to the thief: %v", err)
			}
		})
	}
}
