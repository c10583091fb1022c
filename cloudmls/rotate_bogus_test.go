package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// shown is a key of somebody's, and the rotations that lead to it, as a leaf shows
// them in some group.
type shown struct {
	key   []byte
	chain []keyapi.Rotation
}

// bogusRotation is what a thief of an account's identity key can sign.
func (d *device) bogusRotation() shown {
	d.t.Helper()
	own, err := d.identity(d.t.Context(), d.self)
	if err != nil {
		d.t.Fatal(err)
	}
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	r, err := keyapi.NewRotation(d.self, own.private(), public, uint64(d.w.clock.now().Unix()))
	if err != nil {
		d.t.Fatal(err)
	}
	return shown{public, []keyapi.Rotation{r}}
}

// isShown has the state learn what the Commit of a group shows under an account's
// name.
func (d *device) isShown(a Account, s shown) {
	d.t.Helper()
	err := d.update(d.t.Context(), d.self, func(_ *state.Tx, v *view) error {
		return v.pinRoster([]memberEntry{{Platform: a.Platform, ID: a.ID, IdentityKey: s.key, rotations: s.chain}}, d.w.clock.now())
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *device) pinnedKey(a Account) *pinEntry {
	d.t.Helper()
	p, err := d.pin(d.t.Context(), d.self, a)
	if err != nil || p == nil {
		d.t.Fatalf("pin of %s: %v, %v", a, p, err)
	}
	return p
}

// TestThreat44_BogusRotationHoldsNothingBack: a thief of Alice's identity key has shown
// Bob a rotation of it for days that the key server never confirmed. When Alice replaces
// the key, Bob hears of it within the hour although the thief shows theirs on, and the
// key server is not asked more often than once an hour meanwhile.
func TestThreat44_BogusRotationHoldsNothingBack(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]func(alice, bob *device, bogus shown){
		"nothing else is shown": func(_, _ *device, _ shown) {},
		"the thief's key is shown after hers": func(alice, bob *device, bogus shown) {
			id, err := alice.identity(alice.t.Context(), alice.self)
			if err != nil {
				alice.t.Fatal(err)
			}
			bob.isShown(alice.self, shown{id.public(), id.Rotations})
			bob.isShown(alice.self, bogus)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			alice, bob := w.user("alice"), w.user("bob")
			alice.ensureDialog(bob)
			bob.cleanSync()
			bogus := alice.bogusRotation()
			bob.isShown(alice.self, bogus)
			for _, d := range []time.Duration{0, confirmAgain, confirmLater, confirmRarely} {
				w.clock.advance(d)
				w.wire.reset()
				for range 3 {
					bob.mustSync()
				}
				if n := w.wire.count("GET", "/v1/reachable/"); n != 1 {
					t.Errorf("after %v: %d questions", d, n)
				}
			}
			if p := bob.pinnedKey(alice.self); !bytes.Equal(p.Key, alice.ownKey()) || !bytes.Equal(p.Next, bogus.key) {
				t.Fatalf("the attack does not begin: %+v", p)
			}
			if err := alice.rotateIdentity(t.Context(), alice.self, 1); err != nil {
				t.Fatal(err)
			}
			after(alice, bob, bogus)
			w.clock.advance(confirmAgain)
			if r := bob.mustSync(); !slices.Equal(r.Rotated, []Account{alice.self}) {
				t.Errorf("an hour later: %+v", r)
			}
			if p := bob.pinnedKey(alice.self); !bytes.Equal(p.Key, alice.ownKey()) || p.Next != nil {
				t.Errorf("the key before counts on: %+v", p)
			}
		})
	}
}

// TestThreat44_BogusRotationAndAMessage: the same where a message under the owner's new
// key is read while the thief's is the one that was shown last: what is said of a
// message stays, so the key server is asked for it, and once.
func TestThreat44_BogusRotationAndAMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	before := alice.encrypt(id, "under the key before")
	bogus := alice.bogusRotation()
	bob.isShown(alice.self, bogus)
	bob.mustSync() // asks about it
	if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	message := alice.encrypt(id, "under the next one")
	w.wire.fail(func(e *exchange) bool { return e.is("GET", "/v1/reachable/") }, faults["500 page"])
	bob.mustSync()
	w.wire.set(nil, nil)
	bob.isShown(alice.self, bogus)
	if p := bob.pinnedKey(alice.self); !bytes.Equal(p.Next, bogus.key) || bytes.Equal(p.Key, alice.ownKey()) {
		t.Fatalf("the attack does not begin: %+v", p)
	}
	w.wire.reset()
	bob.warned(before, WarningLate)
	if n := w.wire.count("GET", "/v1/reachable/"); n != 0 {
		t.Errorf("%d questions for a message under the pinned key", n)
	}
	bob.reads(message, "under the next one", alice)
	if p := bob.pinnedKey(alice.self); !bytes.Equal(p.Key, alice.ownKey()) {
		t.Errorf("the pin did not follow: %+v", p)
	}
	if n := w.wire.count("GET", "/v1/reachable/"); n != 1 {
		t.Errorf("%d questions", n)
	}
	w.wire.reset() // a key that was replaced is no question of the present
	bob.isShown(alice.self, alice.bogusRotation())
	bob.warned(before, WarningLate)
	if n := w.wire.count("GET", "/v1/reachable/"); n != 0 {
		t.Errorf("%d questions for a message under a key that was replaced", n)
	}
}
