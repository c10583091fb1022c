package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// step tells whether a request is this step of a move.
func (e *exchange) step(change string) bool {
	return e.is("POST", "/v1/store") && e.request.URL.Path == "/v1/store" && bytes.Contains(e.sent, []byte(`"change":"`+change+`"`))
}

// stopsAt lets a device die as it is about to take a step of a move. The step is given: it
// may be carried out later.
func (r *roam) stopsAt(d *device, origin, change string, do func() error) *exchange {
	r.t.Helper()
	var late *exchange
	for at, w := range r.wires {
		w.set(func(e *exchange) bool {
			if late == nil && at == origin && e.step(change) {
				late = e
				d.Close()
			}
			return late != nil
		}, nil)
	}
	err := do()
	r.wireAll(nil, nil)
	if err == nil || late == nil {
		r.t.Fatalf("no %s at %q: %v", change, origin, err)
	}
	return late
}

// once runs do when a store is asked for a step the first time: before it is taken, or after.
func (r *roam) once(origin, change string, after bool, do func()) (ran func() bool) {
	var done atomic.Bool
	hook := func(e *exchange) {
		if e.step(change) && done.CompareAndSwap(false, true) {
			do()
		}
	}
	if after {
		r.wires[origin].set(nil, hook)
	} else {
		r.wires[origin].set(func(e *exchange) bool { hook(e); return false }, nil)
	}
	return done.Load
}

// refused carries out a request that was on its way for long.
func (r *roam) refused(e *exchange) {
	r.t.Helper()
	if got := e.carryOut(); got != 409 {
		r.t.Errorf("%s, late: %d", e.sent, got)
	}
}

type traveller struct {
	*roam
	alice, phone, tablet, bob *device
	id                        ConversationID
}

// newTraveller is a user with three devices, and whom she writes to.
func newTraveller(t *testing.T) *traveller {
	t.Helper()
	r := newRoam(t)
	r.world.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	v := &traveller{roam: r, alice: r.user("alice"), bob: r.user("bob")}
	v.id = newID(t)
	v.alice.ensureGroup(v.id, v.bob)
	v.bob.cleanSync()
	v.phone, v.tablet = v.alice.sibling(), v.alice.sibling()
	v.goesOn(v.id, v.phone, v.tablet, v.alice, v.bob)
	return v
}

// rests checks that all devices find the state where it should be, that it goes on there,
// and that nothing is left elsewhere.
func (v *traveller) rests(origin string, devices ...*device) {
	v.t.Helper()
	for _, d := range devices {
		if err := d.Maintain(v.t.Context()); err != nil {
			v.t.Fatal(err)
		}
		d.isAt(origin)
	}
	v.goesOn(v.id, append(slices.Clone(devices), v.bob)...)
	for _, o := range []string{storeA, storeB} {
		v.has(v.stores[o], o == origin)
	}
	v.new(v.alice, password).isAt(origin)
}

var (
	toA = StoreTarget{Origin: storeA, Username: "a"}
	toB = StoreTarget{Origin: storeB, Username: "b"}
)

// Finding 1: a device gives a move up, the old store stays, and before the new one is
// told to delete, another device moves anew.
func TestMoveGivenUpAndBegunAnewAtOnce(t *testing.T) {
	t.Parallel()
	v := newTraveller(t)
	v.stopsAt(v.alice, "", "go", func() error { return v.alice.MoveStore(t.Context(), toA, nil) })
	ran := v.once(storeA, "abandon", false, func() {
		if err := v.tablet.MoveStore(t.Context(), toA, nil); err != nil {
			t.Error(err)
		}
	})
	if err := v.phone.CancelMove(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.wireAll(nil, nil)
	if !ran() {
		t.Fatal("nothing was abandoned")
	}
	v.alice.crash()
	v.rests(storeA, v.tablet, v.phone, v.alice)
}

// Finding 1 once more: a move is given up, but the old store was not told yet, and can
// still let go. What the new one has is not deleted before it stays.
func TestMoveBegunAnewBeforeTheOldStoreStays(t *testing.T) {
	t.Parallel()
	v := newTraveller(t)
	late := v.stopsAt(v.alice, "", "go", func() error { return v.alice.MoveStore(t.Context(), toA, nil) })
	v.stopsAt(v.phone, "", "stay", func() error { return v.phone.CancelMove(t.Context()) })
	ran := v.once(storeA, "abandon", true, func() { v.refused(late) })
	if err := v.tablet.MoveStore(t.Context(), toA, nil); err != nil {
		t.Errorf("anew: %v", err)
	}
	v.wireAll(nil, nil)
	if !ran() {
		t.Fatal("nothing was abandoned")
	}
	v.alice.crash()
	v.phone.crash()
	v.rests(storeA, v.tablet, v.phone, v.alice)
}

// Finding 2: steps of a move that was given up arrive in the midst of the next one.
func TestMoveStepsArriveLate(t *testing.T) {
	t.Parallel()
	for _, x := range []struct{ origin, change string }{{"", "leave"}, {storeA, "open"}, {"", "go"}} {
		t.Run(x.change, func(t *testing.T) {
			t.Parallel()
			v := newTraveller(t)
			late := v.stopsAt(v.alice, x.origin, x.change, func() error { return v.alice.MoveStore(t.Context(), toA, nil) })
			if err := v.phone.CancelMove(t.Context()); err != nil {
				t.Fatal(err)
			}
			v.refused(late)
			v.stopsAt(v.tablet, "", "go", func() error { return v.tablet.MoveStore(t.Context(), toB, nil) })
			v.refused(late)
			v.alice.crash()
			v.tablet.crash()
			v.rests(storeB, v.alice, v.phone, v.tablet)
			v.refused(late)
			v.rests(storeB, v.alice, v.phone, v.tablet)
		})
	}
}

// Findings 1 and 2: the old store lets go by a move that was given up, when the next one is
// named already. That goes on from where the state is.
func TestMoveNamedWhileAnEarlierOneIsDecided(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]StoreTarget{"to another store": toB, "to the same": toA} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newTraveller(t)
			late := v.stopsAt(v.alice, "", "go", func() error { return v.alice.MoveStore(t.Context(), toA, nil) })
			v.stopsAt(v.phone, "", "stay", func() error { return v.phone.CancelMove(t.Context()) })
			var named, gone atomic.Bool
			v.wire.set(nil, func(e *exchange) {
				if e.is("POST", "/v1/store/directions") && named.CompareAndSwap(false, true) {
					gone.Store(late.carryOut() == 200)
				}
			})
			if err := v.tablet.MoveStore(t.Context(), target, nil); err != nil {
				t.Errorf("the next one: %v", err)
			}
			v.wireAll(nil, nil)
			if !gone.Load() {
				t.Fatal("the old store did not let go")
			}
			v.alice.crash()
			v.phone.crash()
			v.rests(target.Origin, v.phone, v.tablet, v.alice)
		})
	}
}

// A device that was away since the state was at a store that it is moving to again takes
// what was opened there for nothing: the old store decides.
func TestMoveBackToWhereADeviceWasLeft(t *testing.T) {
	t.Parallel()
	for _, decided := range []bool{false, true} {
		v := newTraveller(t)
		v.alice.moves(toA)
		v.phone.isAt(storeA)
		v.alice.moves(StoreTarget{})
		stop := map[bool]string{false: "go", true: "use"}[decided]
		origin := map[bool]string{false: "", true: storeA}[decided]
		v.stopsAt(v.alice, origin, stop, func() error { return v.alice.MoveStore(t.Context(), toA, nil) })
		_, err := v.phone.commit(t.Context(), v.phone.self, v.id, func(*conversationRecord) (*change, error) { return &change{renew: true}, nil })
		if decided && err != nil || !decided && !errors.Is(err, ErrMoving) {
			t.Errorf("decided %v: a device that was away writes: %v", decided, err)
		}
		v.alice.crash()
		if decided {
			v.rests(storeA, v.phone, v.alice, v.tablet)
			continue
		}
		if err := v.phone.CancelMove(t.Context()); err != nil {
			t.Fatal(err)
		}
		v.rests("", v.phone, v.alice, v.tablet)
	}
}

// Finding 6: the store that was left is dead, or was set up anew, and devices that were
// offline during the move get on all the same.
func TestMoveFromAStoreThatDied(t *testing.T) {
	t.Parallel()
	for _, died := range []string{"no answer", "set up anew", keyapi.CodeUnavailable, keyapi.CodeInternal, keyapi.CodeNoRoute, keyapi.CodeUnauthorized} {
		for _, done := range []bool{false, true} {
			v := newTraveller(t)
			v.alice.moves(toA)
			v.phone.isAt(storeA)
			v.tablet.isAt(storeA)
			if done {
				v.alice.moves(toB)
			} else {
				v.stopsAt(v.alice, storeA, "go", func() error { return v.alice.MoveStore(t.Context(), toB, nil) })
				v.alice.crash()
			}
			switch died {
			case "set up anew":
				v.start(storeA, keyserver.Options{})
			case "no answer":
				v.wires[storeA].set(func(*exchange) bool { return true }, nil)
			default:
				v.wires[storeA].set(func(e *exchange) bool {
					e.status, e.header, e.answered = 500, "application/problem+json", encodeJSON(t, keyapi.Problem{Status: 500, Code: died})
					return true
				}, nil)
			}
			if !done {
				if err := v.phone.Maintain(t.Context()); err != nil {
					t.Fatalf("%s: maintain: %v", died, err)
				}
			} else if err := v.phone.CancelMove(t.Context()); !errors.Is(err, ErrNoMove) {
				t.Errorf("%s: cancel: %v", died, err)
			}
			for _, d := range []*device{v.phone, v.tablet, v.alice, v.new(v.alice, password)} {
				d.isAt(storeB)
				if err := d.ResumeMove(t.Context(), nil); err != nil {
					t.Errorf("%s: resume: %v", died, err)
				}
				if err := d.Maintain(t.Context()); err != nil {
					t.Errorf("%s: maintain: %v", died, err)
				}
			}
			v.goesOn(v.id, v.tablet, v.phone, v.alice, v.bob)
		}
	}
}

// TestThreat16_EmptyDirections, finding 7: that there is nothing to say is not
// believed at any counter, and nothing stays of it.
func TestThreat16_EmptyDirections(t *testing.T) {
	t.Parallel()
	l := newLair(t)
	alice := l.user("alice")
	phone := alice.sibling()
	alice.moves(toA)
	phone.isAt(storeA)
	lie := l.home.Always(evil.To("GET", "/v1/store"), evil.Edit(func(p *keyapi.StorePlace) {
		p.Directions = &keyapi.Directions{Counter: p.Directions.Counter + 5}
	}))
	for _, d := range []*device{alice, phone} {
		if st, err := d.Store(t.Context()); err == nil {
			t.Errorf("believed: %+v", st)
		}
	}
	lie.Stop()
	for _, d := range []*device{alice, phone} {
		d.isAt(storeA)
		d.crash()
		d.isAt(storeA)
	}
}

// Finding 12: the new store is asked before the old one takes no writes any more; that it
// gives too little room is its refusal, and the move is given up.
func TestMoveToAStoreWithoutRoom(t *testing.T) {
	t.Parallel()
	v := newTraveller(t)
	const small = "https://small.test.example"
	v.start(small, keyserver.Options{Limits: keyserver.Limits{Objects: 3, ObjectBytes: 1 << 30, Accounts: 10, Sessions: 10, KeyPackages: 100}})
	v.wire.reset()
	err := v.alice.MoveStore(t.Context(), StoreTarget{Origin: small, Username: "a"}, nil)
	var refused *TargetError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "room") {
		t.Errorf("moved: %v", err)
	}
	for _, e := range v.wire.requests() {
		if e.step("leave") {
			t.Error("the old store was told to let go of its writes")
		}
	}
	v.rests("", v.alice, v.phone, v.tablet)
}

// Finding 12: a move that nothing will come of is given up by whoever has waited for it.
func TestMoveThatIsRefusedKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	v := newTraveller(t)
	v.stopsAt(v.alice, storeA, "open", func() error { return v.alice.MoveStore(t.Context(), toA, nil) })
	renew := func(*conversationRecord) (*change, error) { return &change{renew: true}, nil }
	if _, err := v.phone.commit(t.Context(), v.phone.self, v.id, renew); !errors.Is(err, ErrMoving) {
		t.Fatalf("writing during the move: %v", err)
	}
	v.wires[storeA].set(func(e *exchange) bool { // it has no room any more
		if !e.is("POST", "/v1/store/import") {
			return false
		}
		e.status, e.header = 507, "application/problem+json"
		e.answered = []byte(`{"status":507,"code":"quota_exceeded"}`)
		return true
	}, nil)
	v.clock.advance(3 * time.Minute)
	_, err := v.phone.commit(t.Context(), v.phone.self, v.id, renew)
	v.wireAll(nil, nil)
	if err != nil {
		t.Errorf("waiting for a move that is refused: %v", err)
	}
	v.alice.crash()
	v.rests("", v.phone, v.alice, v.tablet)
}

// Finding 12: whoever is refused gives up its own move, and not the next one, which
// another device has begun.
func TestMoveRefusedAndAnotherBegun(t *testing.T) {
	t.Parallel()
	v := newTraveller(t)
	var once atomic.Bool
	v.wires[storeA].set(nil, func(e *exchange) {
		if !e.step("arrive") || !once.CompareAndSwap(false, true) {
			return
		}
		e.status, e.answered = 507, []byte(`{"status":507,"code":"quota_exceeded"}`)
		e.header = "application/problem+json"
		if err := v.phone.CancelMove(t.Context()); err != nil {
			t.Error(err)
		}
		v.stopsAt(v.phone, "", "go", func() error { return v.phone.MoveStore(t.Context(), toB, nil) })
	})
	if err := v.alice.MoveStore(t.Context(), toA, nil); !errors.Is(err, ErrMoveGivenUp) {
		t.Errorf("refused, and given up: %v", err)
	}
	v.wireAll(nil, nil)
	v.phone.crash()
	v.rests(storeB, v.tablet, v.alice, v.phone)
}

// Finding 13: a move that another device gave up did not end well.
func TestMoveGivenUpElsewhere(t *testing.T) {
	t.Parallel()
	v := newTraveller(t)
	ran := v.once(storeA, "open", true, func() {
		if err := v.phone.CancelMove(t.Context()); err != nil {
			t.Error(err)
		}
	})
	err := v.alice.MoveStore(t.Context(), toA, nil)
	v.wireAll(nil, nil)
	if !errors.Is(err, ErrMoveGivenUp) || !ran() {
		t.Errorf("given up on another device: %v", err)
	}
	v.rests("", v.alice, v.phone, v.tablet)
}

// Finding 14: where the new store could not be told to delete, and the device that gave
// up the move is gone, another one does.
func TestMoveGivenUpWhileTheNewStoreIsDown(t *testing.T) {
	t.Parallel()
	v := newTraveller(t)
	v.stopsAt(v.alice, "", "go", func() error { return v.alice.MoveStore(t.Context(), toA, nil) })
	v.wires[storeA].set(func(*exchange) bool { return true }, nil)
	if err := v.phone.CancelMove(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.wireAll(nil, nil)
	v.has(v.stores[storeA], true)
	v.phone.Close()
	v.rests("", v.tablet)
}

// TestThreat16_DirectionsThatDoNotOpen, finding 16: what was made for others is passed
// over where the state is at home, and what nobody can have made is not.
func TestThreat16_DirectionsThatDoNotOpen(t *testing.T) {
	t.Parallel()
	l := newLair(t)
	alice, bob := l.user("alice"), l.user("bob")
	for _, d := range []*device{alice, bob} {
		d.moves(StoreTarget{Origin: storeA, Username: d.username})
		d.moves(StoreTarget{})
	}
	of := func(d *device) []byte { return l.placeOf(t, d).Directions.Data }
	theirs, ours := of(bob), of(alice)
	for name, x := range map[string]struct {
		data []byte
		ok   bool
	}{
		"malformed": {[]byte("CMD1"), false}, "empty": {nil, false}, "damaged": {append(slices.Clone(ours[:len(ours)-1]), ours[len(ours)-1]^1), false},
		"of another user": {theirs, true},
	} {
		lie := l.home.Always(evil.To("GET", "/v1/store"), evil.Edit(func(p *keyapi.StorePlace) { p.Directions.Data = x.data }))
		c, err := Open(t.Context(), alice.username, password, l.options(NewMemoryStore()))
		lie.Stop()
		if (err == nil) != x.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			c.Close()
		}
	}
}

// Sixteen moves are over, and the store that they led to was down whenever it was to be
// told. The next one does not begin, and the error says why; once the store answers, it does.
func TestMoveWithMuchLeftOfEarlierOnes(t *testing.T) {
	t.Parallel()
	v := newTraveller(t)
	away := func(down bool) {
		v.wires[storeA].set(map[bool]func(*exchange) bool{true: func(*exchange) bool { return true }}[down], nil)
	}
	for range 16 {
		v.alice.stopsAt(MoveReady, toA)
		away(true)
		if err := v.phone.CancelMove(t.Context()); err != nil {
			t.Fatal(err)
		}
		away(false)
	}
	away(true)
	err := v.phone.MoveStore(t.Context(), toB, nil)
	if !errors.Is(err, ErrMovesLeft) || errors.Is(err, ErrMoveBusy) || !strings.Contains(err.Error(), storeA) || strings.Contains(err.Error(), storeB) || strings.Contains(err.Error(), "key server") {
		t.Errorf("a seventeenth: %v", err)
	}
	v.phone.isAt("")
	v.goesOn(v.id, v.phone, v.alice, v.bob)
	away(false)
	if err := v.phone.MoveStore(t.Context(), toB, nil); err != nil {
		t.Errorf("when the store answers: %v", err)
	}
	v.rests(storeB, v.phone, v.alice, v.tablet)
}

// The state comes back to the store that a device still uses, between what that store and what
// home is asked: the device does not take it for a store that leads it astray.
func TestMoveBackWhileADeviceAsksWhereTo(t *testing.T) {
	t.Parallel()
	v := newTraveller(t)
	v.alice.moves(toA)
	v.phone.isAt(storeA)
	v.alice.moves(toB)
	v.tablet.isAt(storeB)
	var once atomic.Bool
	v.wires[storeA].set(nil, func(e *exchange) {
		if e.is("GET", "/v1/store") && once.CompareAndSwap(false, true) {
			v.alice.moves(toA)
			v.alice.maintains()
		}
	})
	_, err := v.phone.Sync(t.Context(), v.phone.self)
	v.wireAll(nil, nil)
	if err != nil || !once.Load() {
		t.Errorf("a device that asks: %v", err)
	}
	v.rests(storeA, v.phone, v.alice, v.tablet)
}

// The store that the directions name has let go, and the device that moves died there. One
// that last heard of a third store follows from one to the next, and reads.
func TestMoveFollowedOverTwoStores(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"use", "go"} {
		v := newTraveller(t)
		old := v.bob.encrypt(v.id, "from before")
		v.alice.moves(toB)
		v.phone.isAt(storeB)
		v.alice.moves(toA)
		if point == "use" {
			v.stopsAt(v.alice, "", "use", func() error { return v.alice.MoveStore(t.Context(), StoreTarget{}, nil) })
		} else {
			v.diesAfter(v.alice, storeA, "/v1/store", `"go"`)
			if err := v.alice.MoveStore(t.Context(), StoreTarget{}, nil); err == nil {
				t.Fatal("it was done before")
			}
			v.wireAll(nil, nil)
		}
		v.phone.reads(old, "from before", v.bob)
		if _, err := v.phone.Sync(t.Context(), v.phone.self); err != nil {
			t.Errorf("%s: %v", point, err)
		}
		v.alice.crash()
		v.rests("", v.phone, v.alice, v.tablet)
	}
}

// A move is given up while the user is not known at the new store yet: that cannot be told of
// it. Whoever was about to register there brings nothing of that move.
func TestMoveGivenUpBeforeTheUserIsRegistered(t *testing.T) {
	t.Parallel()
	v := newTraveller(t)
	var once atomic.Bool
	v.wires[storeA].set(func(e *exchange) bool {
		if e.is("POST", "/v1/auth/register") && once.CompareAndSwap(false, true) {
			if err := v.phone.CancelMove(t.Context()); err != nil {
				t.Error(err)
			}
		}
		return false
	}, nil)
	err := v.alice.MoveStore(t.Context(), toA, nil)
	v.wireAll(nil, nil)
	if !errors.Is(err, ErrMoveGivenUp) || !once.Load() {
		t.Errorf("given up on another device: %v", err)
	}
	for _, e := range v.wires[storeA].requests() {
		if e.step("arrive") {
			t.Error("the new store was told of a move that is over")
		}
	}
	v.rests("", v.alice, v.phone, v.tablet)
	v.tablet.moves(toA)
	v.rests(storeA, v.alice, v.phone, v.tablet)
}

// The move is given up, and the state written, between what the device that copies asks the old
// store: that is no roll-back.
func TestMoveGivenUpWhileItIsListed(t *testing.T) {
	t.Parallel()
	v := newTraveller(t)
	left, once := false, false
	v.wire.set(func(e *exchange) bool {
		if left && !once && e.is("GET", "/v1/objects") {
			once = true
			if err := v.phone.CancelMove(t.Context()); err != nil {
				t.Error(err)
			}
			v.phone.renewKeys(v.id)
		}
		return false
	}, func(e *exchange) { left = left || e.step("leave") })
	err := v.alice.MoveStore(t.Context(), toA, nil)
	v.wireAll(nil, nil)
	var alarm *RollbackError
	if err == nil || errors.As(err, &alarm) || !once {
		t.Errorf("given up on another device: %v", err)
	}
	v.bob.cleanSync()
	v.rests("", v.alice, v.phone, v.tablet)
}

// Another device sees the move through, or gives it up, between the copy and the note of it: the
// old store is told to let go by whoever may.
func TestMoveEndsBeforeItIsNotedAsCopied(t *testing.T) {
	t.Parallel()
	for _, done := range []bool{true, false} {
		v := newTraveller(t)
		met := false
		err := v.alice.MoveStore(t.Context(), toA, func(p MoveProgress) {
			if p.Stage != MoveVerified || met {
				return
			}
			met = true
			if err := map[bool]func() error{
				true:  func() error { return v.phone.ResumeMove(t.Context(), nil) },
				false: func() error { return v.phone.CancelMove(t.Context()) },
			}[done](); err != nil {
				t.Error(err)
			}
		})
		if !met || done && err != nil || !done && !errors.Is(err, ErrMoveGivenUp) {
			t.Errorf("seen through %v: %v", done, err)
		}
		v.rests(map[bool]string{true: storeA}[done], v.alice, v.phone, v.tablet)
	}
}

// A move was given up, and the store that it led to is not told yet. The next one is decided, and
// not noted: who tidies up in between takes that for no end of the first.
func TestMoveDecidedWhileAnEarlierOneIsTidied(t *testing.T) {
	t.Parallel()
	v := newTraveller(t)
	lost := deviceID(t, v.tablet)
	v.alice.stopsAt(MoveVerified, toA)
	v.wires[storeA].set(func(*exchange) bool { return true }, nil)
	if err := v.phone.CancelMove(t.Context()); err != nil {
		t.Fatal(err)
	}
	v.wireAll(nil, nil)
	v.stopsAt(v.alice, storeB, "use", func() error { return v.alice.MoveStore(t.Context(), toB, nil) })
	if err := v.phone.RevokeDevice(t.Context(), lost); err != nil {
		t.Error(err)
	}
	v.alice.crash()
	v.rests(storeB, v.phone, v.alice)
}
