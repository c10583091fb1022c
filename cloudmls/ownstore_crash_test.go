package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// cutOff lets a device do something until it has made n requests to any server:
// the next one is not served, or, with after, the nth is and its answer lost. The
// device dies there. false: it was done before that.
func (r *roam) cutOff(d *device, n int64, after bool, do func() error) (died bool) {
	r.t.Helper()
	var made atomic.Int64
	var dead atomic.Bool
	r.wireAll(func(e *exchange) bool {
		if !dead.Load() && made.Add(1) > n && !after {
			dead.Store(true)
			d.Close()
		}
		if dead.Load() {
			e.status = 0
		}
		return dead.Load()
	}, func(e *exchange) {
		if after && made.Load() == n {
			dead.Store(true)
			d.Close()
			e.status = 0
		}
	})
	err := do()
	r.wireAll(nil, nil)
	if err != nil && !dead.Load() {
		r.t.Fatalf("after %d requests: %v", n, err)
	}
	if err == nil && dead.Load() { // behind everything that counts
		d.crash()
	}
	return err != nil
}

// A device is cut off before or behind any request of a move. It, or another
// device, goes on: nothing is lost, nothing is done twice that must not be, and in
// between everything can be read.
func TestStoreMoveIsCutOff(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("served %v", after), func(t *testing.T) {
			t.Parallel()
			r := newRoam(t)
			alice, bob := r.user("alice"), r.user("bob")
			phone := alice.sibling()
			id := newID(t)
			alice.ensureGroup(id, bob)
			bob.cleanSync()
			old := bob.encrypt(id, "from before")
			phone.cleanSync()
			origins := []string{storeA, "", storeB, storeA, ""}
			for n := int64(1); ; n++ {
				to := StoreTarget{Origin: origins[n%int64(len(origins))]}
				if to.Origin != "" {
					to.Username = fmt.Sprintf("alice-%d", n)
				}
				if st, err := phone.Store(t.Context()); err != nil {
					t.Fatal(err)
				} else if st.Home && to.Origin == "" || st.Origin == to.Origin {
					continue
				}
				died := r.cutOff(alice, n, after, func() error { return alice.MoveStore(t.Context(), to, nil) })
				if !died {
					if n < 15 {
						t.Fatalf("a move of %d requests?", n)
					}
					return
				}
				who := phone
				if n%2 == 0 {
					alice.crash()
					who = alice
				}
				who.reads(old, "from before", bob)
				if err := who.ResumeMove(t.Context(), nil); err != nil {
					t.Fatalf("%d: gone on with: %v", n, err)
				}
				st, err := who.Store(t.Context())
				if err != nil || st.Moving != "" {
					t.Fatalf("%d: %+v, %v", n, st, err)
				}
				if there := st.Home && to.Origin == "" || st.Origin == to.Origin; !there { // nobody had heard of it yet
					who.moves(to)
				}
				if who == phone {
					alice.crash()
				}
				who.renewKeys(id)
				b := who.encrypt(id, "moved")
				for _, d := range []*device{alice, phone, bob} {
					d.mustSync()
					d.reads(b, "moved", who)
				}
				alice.isAt(to.Origin)
			}
		})
	}
}

// A move is given up: the state stays where it is, also where that itself is cut
// off, and the same store takes it later.
func TestStoreMoveIsGivenUp(t *testing.T) {
	t.Parallel()
	r := newRoam(t)
	alice, bob := r.user("alice"), r.user("bob")
	phone := alice.sibling()
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	phone.cleanSync()
	if err := alice.CancelMove(t.Context()); !errors.Is(err, ErrNoMove) {
		t.Errorf("nothing: %v", err)
	}
	to := StoreTarget{Origin: storeA, Username: "alice"}
	stop := errors.New("stop")
	begin := func(stage MoveStage) {
		t.Helper()
		func() {
			defer func() {
				if r := recover(); r != nil && r != stop {
					panic(r)
				}
			}()
			err := alice.MoveStore(t.Context(), to, func(p MoveProgress) {
				if p.Stage == stage {
					panic(stop)
				}
			})
			t.Fatalf("the move went on: %v", err)
		}()
	}
	begin(MoveCopying)
	if _, err := phone.Encrypt(t.Context(), phone.self, id, []byte("while it moves"), nil); err != nil && !errors.Is(err, ErrMoving) {
		t.Fatalf("writing during the move: %v", err)
	}
	if err := phone.MoveStore(t.Context(), StoreTarget{Origin: storeB, Username: "x"}, nil); !errors.Is(err, ErrMoveBusy) {
		t.Errorf("another move meanwhile: %v", err)
	}
	if err := phone.CancelMove(t.Context()); err != nil {
		t.Fatal(err)
	}
	phone.isAt("")
	if err := alice.ResumeMove(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	alice.isAt("")
	r.goesOn(id, phone, alice, bob)

	// Cut off between its steps: whoever writes next ends it.
	for n := int64(1); ; n++ {
		to.Username = fmt.Sprintf("again-%d", n)
		begin(MoveCopying)
		if !r.cutOff(phone, n, false, func() error { return phone.CancelMove(t.Context()) }) {
			break
		}
		phone.crash()
		err := phone.CancelMove(t.Context())
		if err != nil && !errors.Is(err, ErrNoMove) {
			t.Fatalf("%d: %v", n, err)
		}
		bob.cleanSync()
		alice.mustSync()
		alice.renewKeys(id)
		bob.cleanSync()
		bob.reads(alice.encrypt(id, "stayed"), "stayed", alice)
		alice.isAt("")
	}
	phone.isAt("")

	// Also when the new store has everything already: it is deleted there.
	to.Username = "nearly"
	begin(MoveVerified)
	r.has(r.stores[storeA], true)
	if err := phone.CancelMove(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.has(r.stores[storeA], false)
	r.goesOn(id, phone, alice, bob)
	alice.isAt("")

	// The old store decides: it has let go while another device gives up.
	to.Username = "decided"
	begin(MoveVerified)
	var once atomic.Bool
	r.wire.set(nil, func(e *exchange) {
		if !e.is("POST", "/v1/store/directions") || !once.CompareAndSwap(false, true) {
			return
		}
		// The directions name no move any more; the device that moves has asked
		// before, and takes the last step.
		err := alice.Client.store.Authorized(t.Context(), func(ctx context.Context, token string) error {
			home := r.ks.Client()
			at, err := home.StorePlace(ctx, token)
			if err == nil {
				_, err = home.MoveStore(ctx, token, keyapi.StoreMove{Change: keyapi.MoveGo, Move: at.Move, IndexHash: at.IndexHash})
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	err := phone.CancelMove(t.Context())
	r.wire.set(nil, nil)
	if !errors.Is(err, ErrMoveDecided) {
		t.Fatalf("after the old store has let go: %v", err)
	}
	for _, d := range []*device{phone, alice} {
		d.isAt(storeA)
	}
	r.goesOn(id, alice, phone, bob)
	r.new(alice, password).isAt(storeA)
}

// dies makes a device die as it is about to send a request to a store.
func (r *roam) dies(d *device, origin, path string) {
	var dead atomic.Bool
	for at, w := range r.wires {
		w.set(func(e *exchange) bool {
			if at == origin && e.is("POST", path) && dead.CompareAndSwap(false, true) {
				d.Close()
			}
			if dead.Load() {
				e.status = 0
			}
			return dead.Load()
		}, nil)
	}
}

// Whoever has waited with its writes for a while sees the move through by itself.
func TestWaitingWritesFinishAMove(t *testing.T) {
	t.Parallel()
	r := newRoam(t)
	alice, bob := r.user("alice"), r.user("bob")
	phone := alice.sibling()
	id := alice.ensureDialog(bob)
	bob.cleanSync()
	phone.cleanSync()
	r.dies(alice, storeA, "/v1/store/import")
	if err := alice.MoveStore(t.Context(), StoreTarget{Origin: storeA, Username: "alice"}, nil); err == nil {
		t.Fatal("it was done before")
	}
	r.wireAll(nil, nil)
	if _, err := phone.commit(t.Context(), phone.self, id, func(*conversationRecord) (*change, error) { return &change{renew: true}, nil }); !errors.Is(err, ErrMoving) {
		t.Fatalf("writing during the move: %v", err)
	}
	r.clock.advance(3 * time.Minute)
	phone.renewKeys(id)
	phone.isAt(storeA)
	alice.crash()
	r.goesOn(id, alice, phone, bob)
}
