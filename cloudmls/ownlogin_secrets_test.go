package cloudmls

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// apartRoam has three servers of the operator's, all of which can be cut off.
func apartRoam(t *testing.T) *roam {
	a := newApart(t)
	r := roamFrom(a.world, a.storeWire)
	r.wires["auth"] = a.authWire
	return r
}

// signsInAgain gives whichever password signs in, and the device with it.
func (r *roam) signsInAgain(d *device, passwords ...string) string {
	r.t.Helper()
	d.Close()
	var err error
	for _, p := range passwords {
		if d.Client, err = Open(r.t.Context(), d.username, p, r.options(d.store)); err == nil {
			c := d.Client
			r.t.Cleanup(func() { c.Close() })
			return p
		}
		if !errors.Is(err, ErrCredentials) {
			break
		}
	}
	r.t.Fatalf("sign in on a known device: %v", err)
	return ""
}

// TestThreat06_SecretsCutOffWithDirections: what the user signs in with is changed, or
// a device comes, wherever the state is, with directions at home; it is cut off at any
// request. The password that signs in finds the state on a new device at once, and
// after another device has looked after the state.
func TestThreat06_SecretsCutOffWithDirections(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		op    string
		apart bool
		at    string
	}{
		{"password", false, ""}, {"password", true, storeA}, {"password", true, ""},
		{"code", false, storeA}, {"code", true, ""},
		{"recovery", false, ""}, {"recovery", true, storeA}, {"recovery", true, ""},
		{"new device", false, ""}, {"new device", false, storeA},
	} {
		t.Run(fmt.Sprintf("%s, apart %v, at %q", c.op, c.apart, c.at), func(t *testing.T) {
			t.Parallel()
			var r *roam
			if c.apart {
				r = apartRoam(t)
			} else {
				r = newRoam(t)
			}
			alice := r.user("alice")
			tablet := alice.sibling()
			alice.moves(target(storeA))
			if c.at == "" {
				alice.moves(target(""))
			}
			tablet.isAt(c.at)
			good := password
			for n := int64(1); ; n++ {
				var code *Recovery
				var err error
				if c.op == "recovery" {
					if code, err = alice.ReplaceRecoveryCode(t.Context(), good); err != nil {
						t.Fatal(err)
					}
					r.signsInAgain(tablet, good)
				}
				next := fmt.Sprintf("password number %d, of some length", n)
				who := &device{w: r.world, t: t, username: alice.username, self: alice.self, store: NewMemoryStore()}
				died := r.cutOffAny(n, n%2 == 0, func() error {
					switch c.op {
					case "password":
						return alice.ChangePassword(t.Context(), good, next)
					case "code":
						_, err := alice.ReplaceRecoveryCode(t.Context(), good)
						return err
					case "recovery":
						who.Client, _, err = Recover(t.Context(), alice.username, code.Code, next, r.options(who.store))
						return err
					}
					who.Client, err = Open(t.Context(), alice.username, good, r.options(who.store))
					return err
				})
				if who.Client != nil {
					who.Close()
				}
				good = r.signsInAgain(tablet, next, good) // a device that was there
				r.findsWith(tablet, good, c.at, n, false)
				tablet.maintains()
				r.findsWith(tablet, good, c.at, n, true)
				r.signsInAgain(alice, good)
				alice.isAt(c.at)
				if !died {
					if n < 6 {
						t.Fatalf("%d requests?", n)
					}
					return
				}
			}
		})
	}
}

// findsWith signs in on a new device, which finds the state, and goes.
// maintained: directions open for it as well; else another device has to seal them
// anew, if the state is at home.
func (r *roam) findsWith(d *device, password, origin string, n int64, maintained bool) {
	r.t.Helper()
	fresh, err := Open(r.t.Context(), d.username, password, r.options(NewMemoryStore()))
	if err != nil {
		r.t.Fatalf("%d: a new device: %v", n, err)
	}
	st, err := fresh.Store(r.t.Context())
	unsealed := err != nil && !maintained && origin == "" && strings.HasSuffix(err.Error(), "they do not open on this device")
	if err != nil && !unsealed {
		r.t.Fatalf("%d: where is the state: %v", n, err)
	}
	if err == nil && (st.Home != (origin == "") || !st.Home && st.Origin != origin) {
		r.t.Fatalf("%d: the state is at %+v", n, st)
	}
	if err := fresh.SignOut(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
}

// cutOffAny lets something be done until n requests were made to any server: the next
// one is not served, or, with after, the nth is and its answer lost, and nothing
// after it.
func (r *roam) cutOffAny(n int64, after bool, do func() error) (died bool) {
	r.t.Helper()
	made, dead := r.counts(n, after)
	err := do()
	r.wireAll(nil, nil)
	if err != nil && !dead.Load() {
		r.t.Fatalf("after %d requests: %v", made.Load(), err)
	}
	return dead.Load()
}

// TestRecoveryCutOffThenRotated: a recovery was cut off once the new password signed
// in. Another device, signed in with it, replaces all keys: the password opens
// the state still.
func TestRecoveryCutOffThenRotated(t *testing.T) {
	t.Parallel()
	const next = "recovered, recovered"
	for _, meanwhile := range []string{"", "directions are written"} {
		t.Run(meanwhile, func(t *testing.T) {
			t.Parallel()
			r := apartRoam(t)
			alice := r.user("alice")
			tablet := alice.sibling()
			code, err := alice.ReplaceRecoveryCode(t.Context(), password)
			if err != nil {
				t.Fatal(err)
			}
			r.signsInAgain(tablet, password)
			cut := false
			r.wires["auth"].set(func(e *exchange) bool {
				if meanwhile != "" && !cut && e.is("POST", "/v1/auth/password") {
					r.dies(tablet, storeA, "/v1/auth/register")
					if err := tablet.MoveStore(t.Context(), target(storeA), nil); err == nil {
						t.Error("it moved")
					}
					r.wires[""].set(nil, nil)
					r.wires[storeA].set(nil, nil)
				}
				return false
			}, func(e *exchange) {
				if e.is("POST", "/v1/auth/password") {
					cut = true
					r.wires[""].set(func(e *exchange) bool { return true }, nil)
				}
			})
			if _, _, err := Recover(t.Context(), alice.username, code.Code, next, r.options(NewMemoryStore())); err == nil || !cut {
				t.Fatalf("not cut off: %v", err)
			}
			r.wireAll(nil, nil)
			if meanwhile != "" {
				r.findsAt(alice, next)
			}
			r.signsInAgain(tablet, next)
			if err := tablet.Rotate(t.Context(), RotateOptions{Devices: []string{}}); err != nil {
				t.Fatal(err)
			}
			r.findsAt(alice, next)
			if err := tablet.ChangePassword(t.Context(), next, "and another one after it"); err != nil {
				t.Fatal(err)
			}
			r.findsAt(alice, "and another one after it")
		})
	}
}

func (r *roam) findsAt(d *device, password string) {
	r.t.Helper()
	c, err := Open(r.t.Context(), d.username, password, r.options(NewMemoryStore()))
	if err != nil {
		r.t.Fatalf("a new device with %q: %v", password, err)
	}
	defer c.Close()
	if _, err := c.Sync(r.t.Context(), d.self); err != nil {
		r.t.Fatal(err)
	}
}

// TestNewDeviceDuringAPasswordChangeApart: it signs in with the old password a moment
// before the new one is told, and the device that changes it dies after that: the
// new one opens the state.
func TestNewDeviceDuringAPasswordChangeApart(t *testing.T) {
	t.Parallel()
	const next = "another horse, another battery"
	for _, at := range []string{"", storeA} {
		r := apartRoam(t)
		alice := r.user("alice")
		if at != "" {
			alice.moves(target(at))
		}
		met := false
		r.wires["auth"].set(func(e *exchange) bool {
			if e.is("POST", "/v1/auth/password") && !met {
				met = true
				r.findsAt(alice, password)
			}
			return false
		}, func(e *exchange) {
			if e.is("POST", "/v1/auth/password") {
				alice.Close()
				e.status = 0
			}
		})
		if err := alice.ChangePassword(t.Context(), password, next); err == nil || !met {
			t.Fatalf("%q: not cut off: %v", at, err)
		}
		r.wireAll(nil, nil)
		r.findsAt(alice, next)
	}
}

// TestRotationEndsARecoveryUnderWay: for whom a recovery has directions sealed nobody
// knows who may have been the thief; the recovery begins anew with the same code.
func TestRotationEndsARecoveryUnderWay(t *testing.T) {
	t.Parallel()
	r := apartRoam(t)
	alice := r.user("alice")
	code, err := alice.ReplaceRecoveryCode(t.Context(), password)
	if err != nil {
		t.Fatal(err)
	}
	r.wires["auth"].set(func(e *exchange) bool { return e.is("POST", "/v1/auth/password") }, nil)
	if _, _, err := Recover(t.Context(), alice.username, code.Code, "recovered", r.options(NewMemoryStore())); err == nil {
		t.Fatal("not cut off")
	}
	r.wireAll(nil, nil)
	h := r.stolen(alice)
	left := func() stolenDirections {
		at := (&lair{world: r.world}).placeOf(t, alice)
		return *h.opens(*at.Directions)
	}
	if d := left(); len(d.For) != 2 || len(d.Root) == 0 {
		t.Fatalf("%d recipients of a recovery", len(d.For))
	}
	if err := alice.Rotate(t.Context(), RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	if d := left(); len(d.For) != 0 || len(d.Root) != 0 {
		t.Errorf("%d recipients, and ROOT of %d octets are left", len(d.For), len(d.Root))
	}
	c, _, err := Recover(t.Context(), alice.username, code.Code, "recovered", r.options(NewMemoryStore()))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	r.findsAt(alice, "recovered")
}

// TestSignOutAtAllStores: no session is left at any store that a device was at.
func TestSignOutAtAllStores(t *testing.T) {
	t.Parallel()
	r := newRoam(t)
	alice := r.user("alice")
	phone := alice.sibling()
	phone.moves(target(storeA))
	phone.moves(target(storeB))
	r.clock.advance(3600e9) // access tokens do not last that long
	if err := phone.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, origin := range []string{storeA, storeB} {
		ended := 0
		for _, e := range r.wires[origin].requests() {
			if e.is("POST", "/v1/auth/logout") && e.status < 300 {
				ended++
			}
		}
		if ended != 1 {
			t.Errorf("%s: %d sessions were ended", origin, ended)
		}
	}
	alice.isAt(storeB)
}
