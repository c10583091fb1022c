package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestThreat13_DroppingDies: the device that drops the stolen one dies at any request,
// or another one writes directions just before it, sealed to whom it knows of. Once
// the others have looked after the state, and dropped the device where it was not
// dropped, the burglar is out everywhere, and nobody else. Of a rotation, and while
// the state moves, a few requests are tried at each place, others at the next one;
// CLOUDMLS_DEATHS=all tries all of them everywhere, which takes half an hour.
func TestThreat13_DroppingDies(t *testing.T) {
	t.Parallel()
	for i, p := range spots() {
		for _, how := range []string{"revoked", "rotated"} {
			step := int64(1) // of the requests
			switch all := os.Getenv("CLOUDMLS_DEATHS") == "all"; {
			case all, how == "revoked" && p.stage == "":
			case how == "revoked", p.stage == "":
				step = 11
			default:
				step = 29
			}
			t.Run(fmt.Sprintf("%s, %s", p, how), func(t *testing.T) {
				t.Parallel()
				var s *scene
				for n := 1 + int64(i)%step; ; n += step {
					met := false
					try := func(t *testing.T) {
						if s == nil || p.stage != "" {
							r := newRoam(t)
							r.world.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
							s = r.setUp(p)
						}
						met = s.dropping(p, how, n, (n+int64(i))/step%3)
					}
					if p.stage == "" {
						try(t)
					} else if !t.Run(fmt.Sprint("request ", n), try) { // whose servers end with it
						return
					}
					if !met {
						if n < 10 {
							t.Fatalf("%d requests?", n)
						}
						return
					}
				}
			})
		}
	}
}

// dropping has a third device stolen, and the laptop drop it, which goes wrong at
// the nth request. met: there was one; one that dies does not know.
func (s *scene) dropping(p spot, how string, n, what int64) (met bool) {
	t := s.t
	t.Helper()
	for _, w := range s.wires {
		w.reset()
	}
	phone := s.laptop.sibling()
	phone.isAt(p.at)
	s.begins(p)
	if _, err := phone.Store(t.Context()); err != nil { // they have it while the state moves
		t.Fatalf("%d: %v", n, err)
	}
	h := s.stolen(phone)
	if h.breaksIn() == 0 && (p.from != "-" || p.at != "") {
		t.Fatal("the burglar is in nowhere before")
	}
	lost := deviceID(t, phone)
	drop := func() error {
		if err := s.laptop.revokes(how, lost); err != nil && (!p.waits || !errors.Is(err, ErrMoving)) {
			return err
		}
		return nil
	}
	met = true
	switch what {
	case 0:
		s.cutOff(s.laptop, n, false, drop)
	case 1:
		s.cutOff(s.laptop, n, true, drop)
	default: // in between somebody writes directions, for the device too
		var err error
		met, err = s.during(n, func(string, *exchange) bool { return true }, func() {
			s.writesDirections(n, p)
			h.breaksIn()
		}, drop)
		if err != nil {
			t.Fatalf("%d: %v", n, err)
		}
	}
	h.breaksIn()
	s.tablet.maintains()
	if s.tablet.lists(lost) {
		if err := s.tablet.revokes(how, lost); err != nil {
			t.Fatalf("%d: again: %v", n, err)
		}
		s.tablet.maintains()
	}
	h.isOut(fmt.Sprint(n))
	s.laptop.crash()
	s.laptop.isAt(p.ends)
	s.tablet.isAt(p.ends)
	if n%8 == 0 || !met {
		s.goesOn(s.id, s.laptop, s.tablet, s.bob)
		s.knownThere(s.tablet, p.ends)
	}
	return met
}

// writesDirections names a move that is given up at once; where one is named, it is
// gone on with until the new store is asked.
func (s *scene) writesDirections(n int64, p spot) {
	s.t.Helper()
	if p.stage != "" {
		if err := s.tablet.ResumeMove(s.t.Context(), nil); err != nil {
			s.t.Errorf("%d: gone on with: %v", n, err)
		}
		return
	}
	to := target(storeB) // always the same user, or others would make room for it
	if p.at == storeB {
		to = target(storeA)
	}
	s.tablet.stopsAt(MoveReady, to)
	if err := s.tablet.CancelMove(s.t.Context()); err != nil {
		s.t.Errorf("%d: give up: %v", n, err)
	}
}

// Finding the same user at a store again: after a move back, after one that was given
// up before or after the user was registered there, and after the login was replaced
// because a device was dropped.
func TestSameLoginAtAStoreAgain(t *testing.T) {
	t.Parallel()
	for _, before := range []string{"back home", "given up before it was registered", "given up after it", "cut off as it was registered"} {
		for _, dropped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, dropped %v", before, dropped), func(t *testing.T) {
				t.Parallel()
				r := newRoam(t)
				alice, bob := r.user("alice"), r.user("bob")
				tablet, phone := alice.sibling(), alice.sibling()
				id := alice.ensureDialog(bob)
				bob.cleanSync()
				switch before {
				case "back home":
					alice.moves(target(storeA))
					alice.moves(target(""))
				case "given up after it":
					alice.stopsAt(MoveReady, target(storeA))
					if err := tablet.CancelMove(t.Context()); err != nil {
						t.Fatal(err)
					}
				default:
					if before == "cut off as it was registered" {
						r.diesAfter(alice, storeA, "/v1/auth/register", "")
					} else {
						r.dies(alice, storeA, "/v1/auth/register")
					}
					if err := alice.MoveStore(t.Context(), target(storeA), nil); err == nil {
						t.Fatal("it moved")
					}
					r.wireAll(nil, nil)
					alice.crash()
					if err := tablet.CancelMove(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := phone.Store(t.Context()); err != nil {
					t.Fatal(err)
				}
				h := r.stolen(phone)
				h.breaksIn()
				if dropped {
					if err := tablet.RevokeDevice(t.Context(), deviceID(t, phone)); err != nil {
						t.Fatal(err)
					}
					alice.maintains()
					h.isOut("dropped")
				}
				registered := r.wires[storeA].count("POST", "/v1/auth/register")
				tablet.moves(target(storeA))
				if again := r.wires[storeA].count("POST", "/v1/auth/register") - registered; (again > 0) != (before == "given up before it was registered" || before == "cut off as it was registered" && !dropped) {
					t.Errorf("registered %d times more", again)
				}
				alice.isAt(storeA)
				if dropped {
					h.isOut("moved")
				}
				r.goesOn(id, alice, tablet, bob)
				r.knownThere(alice, storeA)
			})
		}
	}
}

// The user is registered at the new store, and the device that did so died before it could say
// so. Then a device that knew the login goes: the login is replaced, and the name serves.
func TestLoginRegisteredUnnotedIsReplaced(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"going on", "moving anew"} {
		r := newRoam(t)
		alice, bob := r.user("alice"), r.user("bob")
		tablet := alice.sibling()
		id := alice.ensureDialog(bob)
		bob.cleanSync()
		r.diesAfter(alice, storeA, "/v1/auth/register", "")
		if err := alice.MoveStore(t.Context(), target(storeA), nil); err == nil {
			t.Fatal("it moved")
		}
		r.wireAll(nil, nil)
		alice.crash()
		phone := alice.sibling()
		h := r.stolen(phone)
		if h.breaksIn() == 0 {
			t.Fatal("the burglar is in nowhere before")
		}
		if err := phone.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
		var err error
		if by == "going on" {
			err = tablet.ResumeMove(t.Context(), nil)
		} else {
			err = tablet.MoveStore(t.Context(), target(storeA), nil)
		}
		if err != nil {
			t.Errorf("%s: %v", by, err)
		}
		h.isOut(by)
		tablet.isAt(storeA)
		alice.isAt(storeA)
		r.goesOn(id, alice, tablet, bob)
	}
}

// TestThreat13_LoginsAreNotGuessed: the login at the store was replaced, and home, which knows
// the next one, does not answer. A device that was offline shows the store its own once: more
// would count as guesses, and keep the user's other devices out too. Nor does it say that the
// store refuses the user.
func TestThreat13_LoginsAreNotGuessed(t *testing.T) {
	t.Parallel()
	r := newRoam(t)
	alice, bob := r.user("alice"), r.user("bob")
	tablet, phone := alice.sibling(), alice.sibling()
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	alice.moves(target(storeA))
	tablet.isAt(storeA)
	if err := alice.RevokeDevice(t.Context(), deviceID(t, phone)); err != nil {
		t.Fatal(err)
	}
	r.wire.set(func(e *exchange) bool { return true }, nil)
	before := r.wires[storeA].count("POST", "/v1/auth/login")
	for range 10 {
		if _, err := tablet.Store(t.Context()); err == nil || errors.Is(err, ErrStoreLogin) {
			t.Errorf("while home does not answer: %v", err)
		}
	}
	if n := r.wires[storeA].count("POST", "/v1/auth/login") - before; n != 1 {
		t.Errorf("the store was shown logins %d times", n)
	}
	r.wire.set(nil, nil)
	tablet.isAt(storeA)
	r.knownThere(alice, storeA)
	r.goesOn(id, tablet, alice, bob)
}
