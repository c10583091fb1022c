package cloudmls

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"
)

// shows is the key that the device's account has, as its leaves show it.
func (d *device) shows() shown {
	d.t.Helper()
	id, err := d.identity(d.t.Context(), d.self)
	if err != nil {
		d.t.Fatal(err)
	}
	return shown{id.public(), id.Rotations}
}

// TestThreat44_KeyBeforeTheFirstOneSeen: Bob meets Alice when she has replaced her
// identity key already, and then comes to groups that she was in before. He is offered
// to accept the key before in none of them: the one that he knows says that it was
// replaced.
func TestThreat44_KeyBeforeTheFirstOneSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	dialog, group := alice.ensureDialog(bob), newID(t)
	alice.ensureGroup(group, bob)
	early := alice.encrypt(dialog, "before the rotation")
	if err := alice.rotateIdentity(t.Context(), alice.self, w.clock.now().UnixMilli()); err != nil {
		t.Fatal(err)
	}
	bob.isShown(alice.self, alice.shows()) // in a group of others
	if r := bob.cleanSync(); !slices.Contains(r.Joined, dialog) || !slices.Contains(r.Joined, group) {
		t.Fatalf("%+v", r)
	}
	p := bob.pinnedKey(alice.self)
	if !bytes.Equal(p.Key, alice.ownKey()) || p.Unconfirmed || p.Changed != nil {
		t.Errorf("the key before is offered: %+v", p)
	}
	for _, id := range []ConversationID{dialog, group} {
		var changed *IdentityChangedError
		if _, err := bob.Encrypt(t.Context(), bob.self, id, []byte("to whom?"), nil); !errors.As(err, &changed) || !changed.Retired {
			t.Errorf("%v: %v", id, err)
		}
	}
	bob.warned(early, WarningIdentityChanged)
	if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	bob.mustSync()
	bob.mustSync()
	for _, id := range []ConversationID{dialog, group} {
		bob.reads(alice.encrypt(id, "after it"), "after it", alice)
		alice.reads(bob.encrypt(id, "an answer"), "an answer", bob)
	}
}

// TestLearnedKeys: which keys are taken for replaced ones, and what they are good for.
func TestLearnedKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	first := alice.shows()
	for range maxLearned + 2 {
		w.clock.advance(time.Minute)
		if err := alice.rotateIdentity(t.Context(), alice.self, w.clock.now().UnixMilli()); err != nil {
			t.Fatal(err)
		}
	}
	now, last := w.clock.now(), alice.shows()
	entry := func(s shown) memberEntry {
		return memberEntry{Platform: alice.self.Platform, ID: alice.self.ID, IdentityKey: s.key, rotations: s.chain}
	}
	r := &contactsRecord{}
	if !r.note(entry(last), false, now) || r.note(entry(last), false, now) {
		t.Error("the chain is learned once")
	}
	p := r.find(alice.self)
	before := last.chain[len(last.chain)-1].Previous
	if len(p.Former) != maxLearned || !p.retired(before) || p.retired(first.key) || p.retired(last.key) {
		t.Errorf("%+v", p)
	}
	at := func() (time.Time, error) { return time.UnixMilli(0), nil }
	if good, err := p.vouches(before, now.Add(-time.Hour), at); good || err != nil {
		t.Errorf("a key that was never pinned vouches: %v", err)
	}
	if r.note(entry(shown{key: before}), false, now) || p.Changed != nil {
		t.Errorf("the key before is a change: %+v", p)
	}

	// What somebody shows for a false key says nothing of the one that the key server names.
	mallory := w.user("mallory")
	p.confirm(mallory.ownKey())
	if p.retired(before) || !bytes.Equal(p.Changed, last.key) {
		t.Errorf("%+v", p)
	}

	// A key that was shown before its chain was known is no change any more.
	r = &contactsRecord{}
	r.note(entry(shown{key: last.key}), true, now)
	if !r.note(entry(shown{key: before}), false, now) || !bytes.Equal(r.find(alice.self).Changed, before) {
		t.Error("nothing says yet that the key was replaced")
	}
	if !r.note(entry(last), false, now) || r.find(alice.self).Changed != nil || !r.find(alice.self).retired(before) {
		t.Errorf("%+v", r.find(alice.self))
	}
}

// TestClaimedKeyIsFollowed: the key server's word, by a KeyPackage that it hands out,
// rotates a pin that nobody has confirmed before, or for which others showed the
// rotation, as its word by an answer does: the key before is no change to be accepted.
func TestClaimedKeyIsFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	before := alice.shows()
	if err := alice.rotateIdentity(t.Context(), alice.self, w.clock.now().UnixMilli()); err != nil {
		t.Fatal(err)
	}
	now, after := w.clock.now(), alice.shows()
	entry := func(s shown) memberEntry {
		return memberEntry{Platform: alice.self.Platform, ID: alice.self.ID, IdentityKey: s.key, rotations: s.chain}
	}
	for name, seen := range map[string]func(*contactsRecord){
		"not confirmed": func(r *contactsRecord) { r.note(entry(before), false, now) },
		"the rotation was shown": func(r *contactsRecord) {
			r.note(entry(before), true, now)
			r.note(entry(after), false, now)
		},
	} {
		r := &contactsRecord{}
		seen(r)
		if !r.note(entry(after), true, now) {
			t.Errorf("%s: nothing changed", name)
		}
		p := r.find(alice.self)
		if !bytes.Equal(p.Key, after.key) || p.Unconfirmed || p.Changed != nil || p.Next != nil || !p.retired(before.key) || p.Rotated == 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
