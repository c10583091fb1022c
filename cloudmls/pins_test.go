package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestThreat52_RotationOfAnotherKeyIsNotFollowed: a member shows a key under
// somebody's name, and a rotation of that key to a second one. When the key
// server names the right key, the rotation is of no account any more: the pin
// must not follow it from there, whatever the key server says later.
func TestThreat52_RotationOfAnotherKeyIsNotFollowed(t *testing.T) {
	t.Parallel()
	bob, now := account("bob"), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	pair := func() (ed25519.PublicKey, ed25519.PrivateKey) {
		public, private, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		return public, private
	}
	first, firstPrivate := pair()
	second, _ := pair()
	right, _ := pair()
	rotation, err := keyapi.NewRotation(bob, firstPrivate, second, uint64(now.Unix()))
	if err != nil {
		t.Fatal(err)
	}
	r := &contactsRecord{Version: recordVersion}
	show := func(key []byte, chain ...keyapi.Rotation) {
		r.note(memberEntry{Platform: bob.Platform, ID: bob.ID, IdentityKey: key, rotations: chain}, false, now)
	}
	show(first)
	show(second, rotation)
	p := r.find(bob)
	if !p.Unconfirmed || !bytes.Equal(p.Next, second) {
		t.Fatalf("the attack does not begin: %+v", p)
	}
	if p.heard(keyapi.Reachability{Account: bob, HasAccount: true, IdentityKey: right}, now) {
		t.Error("the key server's word is taken for a rotation")
	}
	if !bytes.Equal(p.Key, right) || p.Unconfirmed {
		t.Fatalf("the key server's word does not count: %+v", p)
	}
	p.Verified = now.UnixMilli() // people have compared it
	if p.heard(keyapi.Reachability{Account: bob, HasAccount: true, IdentityKey: second}, now) || !bytes.Equal(p.Key, right) || p.Verified == 0 {
		t.Errorf("the pin follows a key that it has not signed: %+v", p)
	}
	// Where the key server confirms the pinned key, what that has signed waits on.
	r = &contactsRecord{Version: recordVersion}
	show(first)
	show(second, rotation)
	p = r.find(bob)
	p.heard(keyapi.Reachability{Account: bob, HasAccount: true, IdentityKey: first}, now)
	if !p.heard(keyapi.Reachability{Account: bob, HasAccount: true, IdentityKey: second}, now) || !bytes.Equal(p.Key, second) {
		t.Errorf("the pin does not follow a key that it has signed: %+v", p)
	}
}

// TestAnotherKeyIsAskedAboutAtOnce: that the key server was just asked about an
// account's key keeps nobody waiting for its word on the next one, and a clock
// that was set back keeps nobody waiting for longer than the hour.
func TestAnotherKeyIsAskedAboutAtOnce(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var x asked
	alice, bob := account("alice"), account("bob")
	r := &contactsRecord{Pins: []pinEntry{{Platform: bob.Platform, ID: bob.ID, Key: []byte("first"), Unconfirmed: true}}}
	pin := &r.Pins[0]
	once := func() bool {
		asks := len(x.due(alice, r.toConfirm(nil), now)) == 1
		x.note(alice, pin, now)
		return asks && len(x.due(alice, r.toConfirm(nil), now)) == 0
	}
	if !once() {
		t.Fatal("a key is not asked about once")
	}
	pin.Next = []byte("second")
	if !once() {
		t.Error("the next key is not asked about once")
	}
	now = now.Add(-400 * 24 * time.Hour)
	if len(x.due(alice, r.toConfirm(nil), now)) == 0 {
		t.Error("after a clock was set right, nothing is asked")
	}
}
