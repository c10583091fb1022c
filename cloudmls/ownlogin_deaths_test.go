package cloudmls

import (
	"errors"
	"fmt"
	"testing"
)

// TestThreat13_DroppingDies: the device that drops the stolen one dies at any request,
// while another one writes directions just before, sealed to whom it knows of. Once
// the others have looked after the state, and dropped the device where it was not
// dropped, the burglar is out everywhere, and nobody else.
func TestThreat13_DroppingDies(t *testing.T) {
	t.Parallel()
	for _, p := range []spot{{from: storeA, at: ""}} {
		for _, how := range []string{"revoked"} {
			t.Run(fmt.Sprintf("%s, %s", p, how), func(t *testing.T) {
				t.Parallel()
				r := newRoam(t)
				s := &scene{roam: r, laptop: r.user("alice"), bob: r.user("bob")}
				s.tablet = s.laptop.sibling()
				s.id = s.laptop.ensureDialog(s.bob)
				s.bob.cleanSync()
				s.laptop.moves(target(p.from))
				s.laptop.moves(target(p.at))
				s.tablet.isAt(p.at)
				for n := int64(1); n < 26; n++ {
					phone := s.laptop.sibling()
					phone.isAt(p.at)
					h := r.stolen(phone)
					if h.breaksIn() == 0 {
						t.Fatal("the burglar is in nowhere before")
					}
					lost := deviceID(t, phone)
					if n%2 == 0 { // in between somebody writes directions, for the device too
						met, err := r.during(n/2, func(_ string, e *exchange) bool { return e.request.Method == "POST" }, func() {
							s.writesDirections(n)
							h.breaksIn()
						}, func() error { return s.laptop.revokes(how, lost) })
						if !met {
							return
						}
						if err != nil {
							t.Fatalf("%d: %v", n, err)
						}
					} else if !r.cutOff(s.laptop, n, n%4 == 1, func() error { return s.laptop.revokes(how, lost) }) && n < 10 {
						t.Fatalf("%d requests?", n)
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
					s.laptop.isAt(p.at)
					s.tablet.isAt(p.at)
					if n%8 == 0 {
						r.goesOn(s.id, s.laptop, s.tablet, s.bob)
						r.knownThere(s.tablet, p.at)
					}
				}
			})
		}
	}
}

// writesDirections names a move that is given up at once.
func (s *scene) writesDirections(n int64) {
	s.t.Helper()
	to := target(storeB) // always the same user, or others would make room for it
	func() {
		stop := errors.New("stop")
		defer func() {
			if r := recover(); r != nil && r != stop {
				panic(r)
			}
		}()
		err := s.tablet.MoveStore(s.t.Context(), to, func(p MoveProgress) {
			if p.Stage == MoveReady {
				panic(stop)
			}
		})
		s.t.Errorf("%d: the move went on: %v", n, err)
	}()
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
