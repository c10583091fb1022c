//go:build crashpoints

package cloudmls

import (
	"testing"

	"github.com/cloudmls/gateway/internal/crashpoint"
)

// killedAt runs do until the device dies at a named point. Not for parallel
// tests: the hook is the process's.
func killedAt(t *testing.T, point string, do func() error) {
	t.Helper()
	died := false
	crashpoint.Hook(func(name string) {
		if name == point && !died {
			died = true
			panic(point)
		}
	})
	defer crashpoint.Hook(nil)
	defer func() {
		if r := recover(); r != nil && r != point {
			panic(r)
		}
		if !died {
			t.Fatal("the point was not passed")
		}
	}()
	if err := do(); err != nil {
		t.Error(err)
	}
}

// TestStoreMoveIsKilled: at every named point of a move a device dies, and it, or
// another device, goes on.
func TestStoreMoveIsKilled(t *testing.T) {
	for _, point := range []string{
		"move-named", "store-registered", "store-leaving", "store-arriving", "store-copied", "store-opened", "store-verified", "store-gone", "move-done",
	} {
		for _, by := range []string{"itself", "a sibling"} {
			t.Run(point+", by "+by, func(t *testing.T) {
				r := newRoam(t)
				alice, bob := r.user("alice"), r.user("bob")
				phone := alice.sibling()
				id := alice.ensureDialog(bob)
				bob.cleanSync()
				old := bob.encrypt(id, "from before")
				to := StoreTarget{Origin: storeA, Username: "alice"}
				killedAt(t, point, func() error { return alice.MoveStore(t.Context(), to, nil) })
				who := phone
				if by == "itself" {
					alice.crash()
					who = alice
				}
				who.reads(old, "from before", bob)
				if err := who.ResumeMove(t.Context(), nil); err != nil {
					t.Fatal(err)
				}
				who.isAt(storeA)
				if who == phone {
					alice.crash()
				}
				r.goesOn(id, alice, phone, bob)
				r.new(alice, password).reads(old, "from before", bob)
			})
		}
	}
}

// TestGivingUpAMoveIsKilled: the move is named no more, and the old store takes no
// writes yet; or it does, and the new one has what came there still. What is left to do
// another device does with Maintain.
func TestGivingUpAMoveIsKilled(t *testing.T) {
	for _, point := range []string{"move-given-up", "move-stayed"} {
		t.Run(point, func(t *testing.T) {
			r := newRoam(t)
			alice, bob := r.user("alice"), r.user("bob")
			phone := alice.sibling()
			id := alice.ensureDialog(bob)
			bob.cleanSync()
			phone.cleanSync()
			killedAt(t, "store-opened", func() error {
				return alice.MoveStore(t.Context(), StoreTarget{Origin: storeA, Username: "alice"}, nil)
			})
			alice.crash()
			killedAt(t, point, func() error { return alice.CancelMove(t.Context()) })
			r.has(r.stores[storeA], true)
			r.goesOn(id, phone, bob) // the write that is refused ends it
			phone.isAt("")
			if err := phone.Maintain(t.Context()); err != nil {
				t.Fatal(err)
			}
			r.has(r.stores[storeA], false)
			alice.crash()
			r.goesOn(id, alice, phone, bob)
		})
	}
}

// TestDroppingADeviceIsKilled: the next login at the store of the user's own is
// named, and the former one signs in.
func TestDroppingADeviceIsKilled(t *testing.T) {
	r := newRoam(t)
	alice, bob := r.user("alice"), r.user("bob")
	phone, tablet := alice.sibling(), alice.sibling()
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	alice.moves(StoreTarget{Origin: storeA, Username: "alice"})
	tablet.isAt(storeA)
	lost := deviceID(t, tablet)
	killedAt(t, "store-login-named", func() error { return alice.RevokeDevice(t.Context(), lost) })
	alice.crash()
	phone.isAt(storeA)
	r.goesOn(id, alice, phone, bob)
	if err := phone.RevokeDevice(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	r.goesOn(id, alice, phone, bob)
	alice.crash()
	alice.isAt(storeA)
	r.new(alice, password).isAt(storeA)
}

// TestThreat13_ReplacingALeftLoginIsKilled: a device that was dropped knows the login at a
// store that was left, or that a move names. The next one is named, and the store not told
// of it yet. The device that goes on, or another one, tells it; the burglar is out, and the
// next move back there signs in.
func TestThreat13_ReplacingALeftLoginIsKilled(t *testing.T) {
	for _, during := range []string{"dropping a device", "a move back there"} {
		for _, by := range []string{"itself", "a sibling"} {
			t.Run(during+", by "+by, func(t *testing.T) {
				r := newRoam(t)
				alice, bob := r.user("alice"), r.user("bob")
				phone, tablet := alice.sibling(), alice.sibling()
				id := alice.ensureDialog(bob)
				bob.cleanSync()
				alice.moves(target(storeA))
				tablet.isAt(storeA)
				alice.moves(target(""))
				phone.isAt("")
				h := r.stolen(tablet)
				if h.breaksIn() == 0 {
					t.Fatal("the burglar is in nowhere before")
				}
				lost := deviceID(t, tablet)
				drop := func() error { return alice.RevokeDevice(t.Context(), lost) }
				if during == "dropping a device" {
					killedAt(t, "store-login-renewed", drop)
				} else {
					r.wire.set(func(e *exchange) bool { return e.is("POST", "/v1/store/directions") }, nil) // nothing is named yet
					if err := drop(); err != nil {
						t.Fatal(err)
					}
					r.wire.set(nil, nil)
					killedAt(t, "store-login-renewed", func() error { return alice.MoveStore(t.Context(), target(storeA), nil) })
				}
				if phone.lists(lost) {
					t.Error("the device is there still")
				}
				if h.breaksIn() == 0 {
					t.Error("the store was told before")
				}
				who, other := phone, alice
				if by == "itself" {
					who, other = alice, phone
				}
				alice.crash()
				who.maintains()
				h.isOut("when another device has looked")
				where := ""
				if during == "a move back there" {
					where = storeA
				}
				other.isAt(where)
				r.goesOn(id, who, other, bob)
				other.moves(target(storeB))
				other.moves(target(storeA))
				h.isOut("after a move back there")
				who.isAt(storeA)
				r.goesOn(id, who, other, bob)
				r.knownThere(who, storeA)
			})
		}
	}
}
