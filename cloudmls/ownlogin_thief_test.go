package cloudmls

import (
	"errors"
	"fmt"
	"testing"
)

// scene is a user with three devices, of which the phone is stolen, and their state
// somewhere on a way.
type scene struct {
	*roam
	laptop, tablet, bob *device
	id                  ConversationID
}

// spot is where the state is, and how far a move of it.
type spot struct {
	from  string      // where it was before, so that there is a login there; "-": nowhere
	at    string      // where it is
	to    StoreTarget // where it is moving to
	stage MoveStage   // "": it does not move
	gone  bool        // the last step is done, and nobody has noted it
	ends  string      // where it is when all is done
	waits bool        // it is written when it has arrived
}

func (p spot) String() string {
	s := fmt.Sprintf("at %q", p.at)
	if p.from != "-" {
		s = fmt.Sprintf("from %q, ", p.from) + s
	}
	if p.stage != "" {
		s += fmt.Sprintf(", to %q, %s", p.to.Origin, p.stage)
	}
	if p.gone {
		s += ", gone"
	}
	return s
}

func target(origin string) StoreTarget {
	if origin == "" {
		return StoreTarget{}
	}
	return StoreTarget{Origin: origin, Username: "alice"}
}

func spots() (all []spot) {
	all = append(all, spot{from: storeA, at: "", ends: ""}, spot{from: storeA, at: storeB, ends: storeB}, spot{from: storeB, at: storeA, ends: storeA}, spot{from: "-", at: storeA, ends: storeA})
	for _, way := range []spot{
		{from: "-", at: "", to: target(storeA)}, {from: storeA, at: "", to: target(storeA)},
		{from: "-", at: storeA, to: target(storeB)}, {from: "-", at: storeA, to: target("")},
	} {
		for _, stage := range []MoveStage{MoveNamed, MoveReady, MoveCopying, MoveVerified, MoveDone} {
			p := way
			p.stage, p.ends = stage, p.to.Origin
			p.waits = stage == MoveCopying || stage == MoveVerified
			if p.gone = stage == MoveDone; p.gone {
				p.stage = MoveVerified
			}
			all = append(all, p)
		}
	}
	return all
}

// setUp brings the state there. The tablet hears of all of it.
func (r *roam) setUp(p spot) *scene {
	r.t.Helper()
	s := &scene{roam: r, laptop: r.user("alice"), bob: r.user("bob")}
	s.tablet = s.laptop.sibling()
	s.id = s.laptop.ensureDialog(s.bob)
	s.bob.cleanSync()
	if p.from != "-" {
		s.laptop.moves(target(p.from))
	}
	if p.from != "-" || p.at != "" {
		s.laptop.moves(target(p.at))
	}
	s.tablet.isAt(p.at)
	return s
}

// begins starts the move, and leaves it where the place says.
func (s *scene) begins(p spot) {
	s.t.Helper()
	switch {
	case p.stage == "":
	case p.stage == MoveNamed:
		s.dies(s.laptop, p.to.Origin, "/v1/") // its first request to the new store that changes something
		if p.to.Origin == "" {
			s.diesAfter(s.laptop, "", "/v1/store/directions", "") // home is told of the name by that
		}
		if err := s.laptop.MoveStore(s.t.Context(), p.to, nil); err == nil {
			s.t.Fatal("it moved")
		}
		s.wireAll(nil, nil)
		s.laptop.crash()
	case p.gone:
		s.diesAfter(s.laptop, p.at, "/v1/store", `"go"`)
		if err := s.laptop.MoveStore(s.t.Context(), p.to, nil); err == nil {
			s.t.Fatal("it was done before")
		}
		s.wireAll(nil, nil)
		s.laptop.crash()
	default:
		s.laptop.stopsAt(p.stage, p.to)
	}
}

// TestThreat13_StolenDevice: wherever the state is or moves, whoever drops the stolen
// device, the burglar is out of all stores once the devices that stay have looked
// after themselves, and these are not.
func TestThreat13_StolenDevice(t *testing.T) {
	t.Parallel()
	for _, p := range spots() {
		for _, how := range []string{"revoked", "rotated"} {
			for _, by := range []string{"the device that moves", "another one"} {
				if p.stage == "" && by == "another one" || p.waits && (how == "rotated" || by == "another one") || how == "rotated" && by == "another one" && !p.gone {
					continue // nothing else than another row; those that wait take long
				}
				t.Run(fmt.Sprintf("%s, %s by %s", p, how, by), func(t *testing.T) {
					t.Parallel()
					r := newRoam(t)
					s := r.setUp(p)
					phone := s.laptop.sibling()
					phone.isAt(p.at)
					s.begins(p)
					if p.stage != "" { // the burglar has it while it moves
						if _, err := phone.Store(t.Context()); err != nil {
							t.Fatal(err)
						}
					}
					h := r.stolen(phone)
					in := h.breaksIn()
					if p.from != "-" || p.at != "" {
						if in == 0 {
							t.Fatal("the burglar is in nowhere before")
						}
					}
					lost := deviceID(t, phone)
					who, other := s.laptop, s.tablet
					if by == "another one" {
						who, other = other, who
					}
					err := who.revokes(how, lost)
					if err != nil && (!p.waits || !errors.Is(err, ErrMoving)) {
						t.Fatal(err)
					}
					if err == nil && !p.waits && who.lists(lost) {
						t.Fatal("the device is there still")
					}
					h.breaksIn()             // with what is to be had in between
					var refused *TargetError // a login that was named, and known before it was registered
					if err := other.Maintain(t.Context()); err != nil && (p.stage != MoveNamed || !errors.As(err, &refused)) {
						t.Fatal(err)
					}
					if err != nil {
						if err := who.revokes(how, lost); err != nil {
							t.Fatalf("when it has arrived: %v", err)
						}
						other.maintains()
					}
					h.isOut("in the end")
					for _, d := range []*device{who, other} {
						d.crash()
					}
					st, err := who.Store(t.Context())
					if err != nil || st.Moving != "" {
						t.Fatalf("%+v, %v", st, err)
					}
					end := st.Origin
					if st.Home {
						end = ""
					}
					if end != p.ends && (refused == nil || end != p.at) {
						t.Errorf("ended at %q", end)
					}
					other.isAt(end)
					r.goesOn(s.id, who, other, s.bob)
					r.knownThere(who, end)
					if end == "" || p.from != "-" {
						return
					}
					who.moves(target(""))
					who.moves(target(storeA)) // with the login that was replaced
					other.isAt(storeA)
					h.isOut("back at the store")
				})
			}
		}
	}
}
