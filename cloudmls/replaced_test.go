package cloudmls

import (
	"errors"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestReplacedGroupIsTold: a message of a group that somebody else put in the place
// of another says so; design section 4: "and the user is told". Not on the devices
// of whoever did it, and not of messages of the group before.
func TestReplacedGroupIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	phone := alice.sibling()
	id := alice.ensureGroup(newID(t), bob, carol).ID
	bob.cleanSync()
	before := alice.encrypt(id, "before")
	told := func(d *device, message []byte, text string, from *device, want bool) {
		t.Helper()
		if p := d.reads(message, text, from); p.Replaced.IsZero() == want {
			t.Errorf("%s: %q: replaced %v", d.self, text, p.Replaced)
		}
	}
	told(bob, before, "before", alice, false)
	at := w.clock.now()
	if _, err := alice.Replace(t.Context(), alice.self, id); err != nil {
		t.Fatal(err)
	}
	after := alice.encrypt(id, "after")
	if r := bob.mustSync(); len(r.Replaced) != 1 {
		t.Fatalf("the replacement: %+v", r)
	}
	if p := bob.reads(after, "after", alice); p.Replaced.Before(at) || p.Replaced.After(w.clock.now()) {
		t.Errorf("replaced at %v, after %v", p.Replaced, at)
	}
	told(bob, before, "before", alice, false)
	alice.renewKeys(id) // the same group, in another epoch
	told(bob, alice.encrypt(id, "an epoch later"), "an epoch later", alice, true)
	answer := bob.encrypt(id, "what was that?")
	told(alice, answer, "what was that?", bob, false)
	told(phone, answer, "what was that?", bob, false)
	told(bob.sibling(), after, "after", alice, true)

	if _, err := bob.Replace(t.Context(), bob.self, id); err != nil { // and the other way round
		t.Fatal(err)
	}
	last := bob.encrypt(id, "once more")
	alice.mustSync()
	told(alice, last, "once more", bob, true)
	told(bob, alice.encrypt(id, "seen"), "seen", alice, false)
}

// TestReplacedWhileASiblingSyncs: a device has asked for what there is, and before
// it stores what it made of that, another one puts a new group in the place of the
// one that a Commit is of. That was followed in the old group, and is no problem;
// one that the account has never followed still is.
func TestReplacedWhileASiblingSyncs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	phone := alice.sibling()
	id := alice.ensureGroup(newID(t), bob).ID // her own first Commit waits in her queue
	held, err := alice.reader(t.Context(), alice.self).conversation(id)
	if err != nil {
		t.Fatal(err)
	}
	replaced := false
	w.wire.set(func(e *exchange) bool {
		if !replaced && e.is("POST", "/v1/tx") {
			replaced = true
			if _, err := alice.Replace(t.Context(), alice.self, id); err != nil {
				t.Errorf("replace: %v", err)
			}
		}
		return false
	}, nil)
	phone.cleanSync()
	w.wire.set(nil, nil)
	if !replaced {
		t.Fatal("the Sync stored nothing: there was no time at which to replace the group")
	}
	if s, err := phone.Status(t.Context(), phone.self); err != nil || len(s.Problems) != 0 {
		t.Errorf("noted: %+v, %v", s.Problems, err)
	}
	bob.cleanSync()
	bob.reads(phone.encrypt(id, "in the new group"), "in the new group", alice)

	for epoch, want := range map[uint64]bool{held.Epoch: true, held.Epoch + 1: false} {
		d := &keyapi.Delivery{Type: keyapi.DeliveryCommit, Conversation: id[:], Group: held.Group, Epoch: epoch}
		err := phone.process(phone.reader(t.Context(), phone.self), d, &SyncResult{})
		var r *refusal
		if known := err == nil; known != want || !known && (!errors.As(err, &r) || r.kind != ProblemUnknownGroup) {
			t.Errorf("a Commit that opens epoch %d of the group before: %v", epoch, err)
		}
	}
}

// TestReplacedWhileSomebodyLeaves: a proposal for the group that was replaced, which
// comes after that, is no problem; one for a group that never served is.
func TestReplacedWhileSomebodyLeaves(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureGroup(newID(t), bob).ID
	bob.cleanSync()
	asked := false
	w.wire.set(func(e *exchange) bool {
		if !asked && e.is("POST", "/v1/tx") {
			asked = true
			w.wire.set(nil, nil)
			if err := alice.Leave(t.Context(), alice.self, id); err != nil {
				t.Errorf("leave: %v", err)
			}
		}
		return false
	}, nil)
	if _, err := bob.Replace(t.Context(), bob.self, id); err != nil {
		t.Fatal(err)
	}
	if !asked {
		t.Fatal("there was no time at which to leave")
	}
	bob.cleanSync()
	if s, err := bob.Status(t.Context(), bob.self); err != nil || len(s.Problems) != 0 {
		t.Errorf("noted: %+v, %v", s.Problems, err)
	}
}
