package cloudmls

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/mls"
)

// TestThreat44_FormerKeyInAGroupOfTheThief: minutes after a contact's pin followed
// a rotation, a thief of the key before begins a group under the contact's name.
// What is said in it is not verified, then or later, whereas what the contact had
// said under that key is, and what it says in an old group until its Commit comes.
func TestThreat44_FormerKeyInAGroupOfTheThief(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol, mallory := w.user("alice"), w.user("bob"), w.user("carol"), w.user("mallory")
	id, group := alice.ensureDialog(bob), newID(t)
	bob.ensureGroup(group, alice, carol)
	alice.cleanSync()
	bob.cleanSync()
	old, err := alice.identity(t.Context(), alice.self)
	if err != nil {
		t.Fatal(err)
	}
	before := alice.encrypt(id, "before")
	bob.reads(before, "before", alice)
	if err := alice.rotateIdentity(t.Context(), alice.self, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Reach(t.Context(), bob.self, alice.self); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(20 * time.Minute)
	carol.mustSync()
	carol.renewKeys(group) // an epoch that begins after the pin followed
	bob.mustSync()
	bob.reads(before, "before", alice)
	alice.mustSync()
	bob.reads(alice.encrypt(group, "before her Commit there"), "before her Commit there", alice)

	f := w.forger()
	f.identity = old.private()
	forged := newID(t)
	d, g := f.welcome(alice.self, binding{kind: KindGroup, conversation: forged, origin: w.ks.Origin}, bob)
	if r := w.deliver(bob, mallory, d); !slices.Contains(r.Joined, forged) {
		t.Fatalf("the attack does not begin: %+v", r)
	}
	for range 2 {
		m, err := g.Protect([]byte("send the money"), mls.ProtectOptions{
			AuthenticatedData: authData(g.EpochAuthenticator(), uint32(g.OwnLeaf()), 0, nil),
		})
		if err != nil {
			t.Fatal(err)
		}
		b, err := m.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if p := bob.decrypt(b); p.Verified || !slices.Contains(p.Warnings, WarningIdentityChanged) {
			t.Errorf("the thief is believed: verified %v, %v", p.Verified, p.Warnings)
		}
		w.clock.advance(30 * 24 * time.Hour)
	}
}

// TestFormerKeysEndWhenTheClockIsRight: a device whose clock is half a year ahead
// notes that a key was replaced. A sibling whose clock is right does not leave it
// good for half a year; one whose clock is wrong itself changes nothing.
func TestFormerKeysEndWhenTheClockIsRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.user("bob")
	a := account("alice")
	now := w.clock.now()
	wrong := now.Add(180 * 24 * time.Hour)
	err := bob.update(t.Context(), bob.self, func(_ *state.Tx, v *view) error {
		p := pinEntry{Platform: a.Platform, ID: a.ID, Key: []byte("k1"), Since: 1, Former: []formerKey{
			{Key: []byte("k-1"), Until: now.Add(-time.Hour).UnixMilli(), Rotated: true},
			{Key: []byte("k0"), Until: wrong.UnixMilli(), Rotated: true},
		}}
		if err := v.put(contactsKey(bob.self), &contactsRecord{Version: recordVersion, Pins: []pinEntry{p}}); err != nil {
			return err
		}
		id := &identityRecord{}
		if _, err := v.read(identityKey(bob.self), id); err != nil {
			return err
		}
		id.Former = []formerKey{{Key: []byte("own"), Until: wrong.UnixMilli(), Rotated: true}}
		return v.put(identityKey(bob.self), id)
	})
	if err != nil {
		t.Fatal(err)
	}
	ends := func() (list []int64) {
		p, err := bob.pin(t.Context(), bob.self, a)
		if err != nil {
			t.Fatal(err)
		}
		id, err := bob.identity(t.Context(), bob.self)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range append(p.Former, id.Former...) {
			list = append(list, f.Until)
		}
		return list
	}
	before := ends()
	bob.o.Now = func() time.Time { return w.clock.now().Add(-90 * 24 * time.Hour) }
	if err := bob.maintainFormer(t.Context(), bob.self); err != nil || !slices.Equal(ends(), before) {
		t.Errorf("by a clock that the key server does not share: %v, %v", ends(), err)
	}
	bob.o.Now = w.clock.now
	if err := bob.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := ends()
	for _, until := range got[1:] {
		if at := time.UnixMilli(until); at.Before(now) || at.After(w.clock.now()) {
			t.Errorf("a former key counts until %v, it is %v", at, now)
		}
	}
	if got[0] != before[0] {
		t.Errorf("a key that was replaced an hour before counts until %v", got[0])
	}
}

// TestLeafOfAFormerKeyIsRenewedBeforeSending: a rotation that was cut off before its
// Commit in a group does not have readers warned of what is sent there later, in an
// epoch that somebody else has opened since.
func TestLeafOfAFormerKeyIsRenewedBeforeSending(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := newID(t)
	bob.ensureGroup(id, alice)
	alice.cleanSync()
	if err := alice.rotateIdentity(t.Context(), alice.self, 1); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(day)
	bob.renewKeys(id)
	before := bob.state(id).Epoch
	sealed := alice.encrypt(id, "with the key of today")
	alice.reads(sealed, "with the key of today", alice)
	bob.reads(sealed, "with the key of today", alice)
	if after := bob.state(id).Epoch; after != before+1 {
		t.Errorf("epoch %d, then %d; want one Commit", before, after)
	}
	bob.reads(alice.encrypt(id, "and another one"), "and another one", alice)
	if after := bob.state(id).Epoch; after != before+1 {
		t.Errorf("epoch %d after another message", after)
	}
}

// TestLeafOfAFormerKeyIsRenewedByAnyCommit: who is added after a rotation that was cut
// off sees the present key, whatever the Commit is for.
func TestLeafOfAFormerKeyIsRenewedByAnyCommit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob, carol := w.user("alice"), w.user("bob"), w.user("carol")
	id := newID(t)
	bob.ensureGroup(id, alice)
	alice.cleanSync()
	if err := alice.rotateIdentity(t.Context(), alice.self, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := carol.Reach(t.Context(), carol.self, alice.self); err != nil { // knows the present key
		t.Fatal(err)
	}
	alice.ensureGroup(id, carol)
	carol.cleanSync()
	if s := carol.state(id); s.Blocked != nil || s.Epoch != 2 {
		t.Fatalf("carol: %+v", s)
	}
	conv, err := carol.reader(t.Context(), carol.self).conversation(id)
	if err != nil {
		t.Fatal(err)
	}
	if m, ok := rosterFind(conv.Members, alice.self); !ok || !bytes.Equal(m.IdentityKey, alice.ownKey()) {
		t.Errorf("Alice's leaf shows another key than her present one: %v", ok)
	}
	bob.cleanSync()
	bob.reads(alice.encrypt(id, "to all"), "to all", alice)
	if s := bob.state(id); s.Epoch != 2 {
		t.Errorf("one Commit would do: epoch %d", s.Epoch)
	}
}
