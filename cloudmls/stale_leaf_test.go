package cloudmls

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// staysOut makes a group of Alice, Bob and Carol whom Bob, of whom she knows nothing,
// has added again after she had left: she refuses to enter it, and replaces her
// identity key, which no device of hers can show in the group.
func staysOut(t *testing.T) (w *world, alice, bob, carol *device, id ConversationID) {
	t.Helper()
	w = newWorld(t)
	alice, bob, carol, id = w.user("alice"), w.user("bob"), w.user("carol"), newID(t)
	alice.ensureGroup(id, carol)
	carol.cleanSync()
	if err := carol.Leave(t.Context(), carol.self, id); err != nil {
		t.Fatal(err)
	}
	w.mended(alice, carol)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	bob.ensureGroup(id, alice, carol)
	if r := carol.mustSync(); len(r.Joined) != 0 || !carol.state(id).Removed {
		t.Fatalf("Carol enters: %+v", r)
	}
	if err := carol.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, d := range []*device{alice, bob} {
		d.mustSync()
		if _, err := d.Reach(t.Context(), d.self, carol.self); err != nil {
			t.Fatal(err)
		}
	}
	return w, alice, bob, carol, id
}

// TestStaleLeafIsNamed: somebody who stays out of a group has replaced the identity
// key. Nothing is encrypted to the key before; the error names who it is about, and
// says what helps. The others' Commits go through.
func TestStaleLeafIsNamed(t *testing.T) {
	t.Parallel()
	_, alice, bob, carol, id := staysOut(t)
	for _, d := range []*device{alice, bob} {
		b, err := d.Encrypt(t.Context(), d.self, id, []byte("to whom?"), nil)
		var changed *IdentityChangedError
		if b != nil || !errors.As(err, &changed) || !changed.Retired || changed.Account != carol.self {
			t.Fatalf("%s: %q, %v", d.self, b, err)
		}
		if text := err.Error(); !strings.Contains(text, carol.self.ID) || !strings.Contains(text, "remove them from the conversation") {
			t.Errorf("%s is told: %s", d.self, text)
		}
		if s := d.state(id); !errors.As(s.Blocked, &changed) || changed.Account != carol.self || !changed.Retired {
			t.Errorf("%s: blocked by %v", d.self, s.Blocked)
		}
	}
	alice.renewKeys(id)
	bob.cleanSync()
	if b, err := bob.Encrypt(t.Context(), bob.self, id, []byte("to whom?"), nil); err == nil {
		t.Errorf("an epoch that others opened vouches for the key before: %q", b)
	}
}

// TestStaleLeafCanBeRemoved: whoever stays out with a former identity key is removed
// like anybody, and the others write to each other. Added again, it is with the new
// key.
func TestStaleLeafCanBeRemoved(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(alice, bob, carol *device, id ConversationID) error{
		"Remove": func(alice, _, carol *device, id ConversationID) error {
			return alice.Remove(t.Context(), alice.self, id, accounts(carol))
		},
		"Update": func(alice, bob, carol *device, id ConversationID) error {
			m, err := alice.Update(t.Context(), alice.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(bob), Omitted: OmittedRemove})
			if err == nil && (!m.Complete || m.State.Blocked != nil) {
				t.Errorf("%+v", m)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, alice, bob, carol, id := staysOut(t)
			if err := remove(alice, bob, carol, id); err != nil {
				t.Fatal(err)
			}
			text := "two of us"
			bob.reads(alice.encrypt(id, text), text, alice)
			alice.reads(bob.encrypt(id, text), text, bob)
			s := alice.ensureGroup(id, bob, carol)
			if s.Blocked != nil || !slices.Equal(s.Members, accounts(alice, bob, carol)) {
				t.Fatalf("%+v", s)
			}
			bob.cleanSync()
			text = "three of us"
			b := alice.encrypt(id, text)
			bob.reads(b, text, alice)
			carol.mustSync() // Alice was in the last roster that she knows
			carol.reads(b, text, alice)
		})
	}
}
