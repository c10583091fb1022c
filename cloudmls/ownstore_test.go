package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// Origins of stores of users' own.
const (
	storeA = "https://store-a.test.example"
	storeB = "https://store-b.test.example"
)

// roam is a world with stores that users can move to, each a key server of its own.
type roam struct {
	*world
	stores map[string]*keyservertest.Server
	wires  map[string]*wire // of all servers that take objects, the home store under ""
	dialed atomic.Int64
}

func newRoam(t *testing.T) *roam {
	w := newWorld(t)
	return roamFrom(w, w.wire)
}

// newRoamApart is a roam whose operator has three servers.
func newRoamApart(t *testing.T) *roam {
	a := newApart(t)
	return roamFrom(a.world, a.storeWire)
}

func roamFrom(w *world, home *wire) *roam {
	r := &roam{world: w, stores: map[string]*keyservertest.Server{}, wires: map[string]*wire{"": home}}
	for _, origin := range []string{storeA, storeB} {
		r.start(origin, keyserver.Options{})
	}
	w.dialStore = func(_ context.Context, origin string) (StoreServer, error) {
		r.dialed.Add(1)
		s, ok := r.stores[origin]
		if !ok {
			return nil, fmt.Errorf("no route to %s", origin)
		}
		return s.Client(), nil
	}
	return r
}

func (r *roam) start(origin string, o keyserver.Options) {
	o.Origin, o.Now = origin, r.clock.now
	if r.wires[origin] == nil {
		r.wires[origin] = &wire{}
	}
	r.stores[origin] = keyservertest.NewServer(r.t, keyservertest.Options{Server: o, Wrap: r.wires[origin].wrap})
}

// wireAll lets all servers fail or lie alike; all nil: none does.
func (r *roam) wireAll(before func(*exchange) bool, after func(*exchange)) {
	for _, w := range r.wires {
		w.set(before, after)
	}
}

func (d *device) moves(to StoreTarget) {
	d.t.Helper()
	var stages []MoveStage
	err := d.MoveStore(d.t.Context(), to, func(p MoveProgress) {
		if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
			stages = append(stages, p.Stage)
		}
	})
	if err != nil {
		d.t.Fatalf("move to %+v: %v", to, err)
	}
	if len(stages) == 0 || stages[len(stages)-1] != MoveDone || !slices.Contains(stages, MoveCopying) {
		d.t.Errorf("stages %v", stages)
	}
	d.isAt(to.Origin)
}

// isAt checks where a device knows the state to be; "": at home.
func (d *device) isAt(origin string) {
	d.t.Helper()
	st, err := d.Store(d.t.Context())
	if err != nil {
		d.t.Fatalf("where is the state: %v", err)
	}
	if st.Home != (origin == "") || !st.Home && st.Origin != origin || st.Moving != "" || st.Objects == 0 {
		d.t.Fatalf("want %q: %+v", origin, st)
	}
}

// new signs in on a new device, with a password alone.
func (r *roam) new(d *device, password string) *device {
	r.t.Helper()
	s := &device{w: r.world, t: r.t, username: d.username, self: d.self, store: NewMemoryStore()}
	var err error
	if s.Client, err = Open(r.t.Context(), d.username, password, r.options(s.store)); err != nil {
		r.t.Fatalf("sign in on a new device: %v", err)
	}
	r.t.Cleanup(func() { s.Close() })
	return s
}

// goesOn checks that everybody reads what everybody writes, epochs change, and
// nothing is refused.
func (r *roam) goesOn(id ConversationID, devices ...*device) {
	r.t.Helper()
	devices[0].renewKeys(id)
	for _, d := range devices {
		d.cleanSync()
	}
	for i, from := range devices {
		text := fmt.Sprintf("from %d", i)
		b := from.encrypt(id, text)
		for _, to := range devices {
			to.reads(b, text, from)
		}
	}
}

// A user's state moves to a store of their own, from there to another one, and
// back: devices follow without the password, new ones find it with the password
// alone, and what signs the user in is changed as before.
func TestStateMovesToOwnStores(t *testing.T) {
	t.Parallel()
	for name, make := range map[string]func(*testing.T) *roam{"one server": newRoam, "three servers": newRoamApart} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := make(t)
			alice, bob := r.user("alice"), r.user("bob")
			phone := alice.sibling()
			id := newID(t)
			alice.ensureGroup(id, bob)
			bob.cleanSync()
			old := bob.encrypt(id, "from before")
			r.goesOn(id, alice, phone, bob)

			alice.moves(StoreTarget{Origin: storeA, Username: "alice-at-a"})
			r.goesOn(id, phone, alice, bob) // the phone writes first
			phone.isAt(storeA)
			tablet := r.new(alice, password)
			tablet.isAt(storeA)
			tablet.reads(old, "from before", bob)
			r.goesOn(id, tablet, phone, alice, bob)
			if !slices.ContainsFunc(phone.Events(), func(e Event) bool { return e.Kind == EventStoreMoved }) {
				t.Error("the other device does not hear of it")
			}
			alice.crash() // finds it again without a question
			alice.isAt(storeA)

			const next = "another horse, another battery"
			if err := phone.ChangePassword(t.Context(), password, next); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(t.Context(), alice.username, password, r.options(NewMemoryStore())); !errors.Is(err, ErrCredentials) {
				t.Errorf("the old password: %v", err)
			}
			fresh := r.new(alice, next)
			fresh.reads(old, "from before", bob)
			code, err := fresh.ReplaceRecoveryCode(t.Context(), next)
			if err != nil {
				t.Fatal(err)
			}
			recovered := &device{w: r.world, t: t, username: alice.username, self: alice.self, store: NewMemoryStore()}
			if recovered.Client, _, err = Recover(t.Context(), alice.username, code.Code, "recovered, recovered", r.options(recovered.store)); err != nil {
				t.Fatalf("recovery code: %v", err)
			}
			t.Cleanup(func() { recovered.Close() })
			recovered.isAt(storeA)
			recovered.reads(old, "from before", bob)

			recovered.moves(StoreTarget{Origin: storeB, Username: "alice-at-b"})
			fresh = r.new(alice, "recovered, recovered")
			fresh.isAt(storeB)
			r.goesOn(id, fresh, recovered, bob)
			fresh.moves(StoreTarget{})
			recovered.isAt("")
			fresh = r.new(alice, "recovered, recovered")
			fresh.reads(old, "from before", bob)
			r.goesOn(id, fresh, recovered, bob)
			fresh.moves(StoreTarget{Origin: storeA, Username: "alice-at-a-again"})
			r.goesOn(id, recovered, fresh, bob)
		})
	}
}

// TestThreat06_PasswordAtAnOwnStoreCutOff: the password that signs in finds and opens
// the state, wherever its change was cut off.
func TestThreat06_PasswordAtAnOwnStoreCutOff(t *testing.T) {
	t.Parallel()
	const next = "another horse, another battery"
	for _, served := range []bool{false, true} {
		r := newRoam(t)
		alice := r.user("alice")
		alice.moves(StoreTarget{Origin: storeA, Username: "alice"})
		var dead atomic.Bool
		is := func(e *exchange) bool { return e.is("POST", "/v1/auth/password") }
		r.wireAll(func(e *exchange) bool {
			if !served && is(e) {
				dead.Store(true)
				alice.Close()
			}
			if dead.Load() {
				e.status = 0
			}
			return dead.Load()
		}, func(e *exchange) {
			if is(e) {
				dead.Store(true)
				alice.Close()
				e.status = 0
			}
		})
		err := alice.ChangePassword(t.Context(), password, next)
		r.wireAll(nil, nil)
		if err == nil || !dead.Load() {
			t.Fatalf("served %v: %v", served, err)
		}
		good, bad := password, next
		if served {
			good, bad = bad, good
		}
		if _, err := Open(t.Context(), alice.username, bad, r.options(NewMemoryStore())); !errors.Is(err, ErrCredentials) {
			t.Errorf("served %v: the other password: %v", served, err)
		}
		fresh := r.new(alice, good)
		fresh.isAt(storeA)
		if err := fresh.ChangePassword(t.Context(), good, "a third one, to go on with"); err != nil {
			t.Fatal(err)
		}
		r.new(alice, "a third one, to go on with").isAt(storeA)
	}
}

// What a store has that was left is deleted there.
func TestLeftStoresHaveNothing(t *testing.T) {
	t.Parallel()
	r := newRoam(t)
	alice := r.user("alice")
	alice.moves(StoreTarget{Origin: storeA, Username: "alice-at-a"})
	r.has(r.ks, false)
	r.has(r.stores[storeA], true)
	alice.moves(StoreTarget{})
	r.has(r.ks, true)
	r.has(r.stores[storeA], false)
}

// has checks whether any user has objects at a server.
func (r *roam) has(s *keyservertest.Server, want bool) {
	r.t.Helper()
	list, err := keyserver.ListUsers(r.t.Context(), s.Handler.Store, "", 100)
	if err != nil {
		r.t.Fatal(err)
	}
	objects := 0
	for _, u := range list {
		objects += u.Objects
	}
	if want != (objects > 0) {
		r.t.Errorf("%s has %d objects", s.Origin, objects)
	}
}

// A store by invitation; and what a store must be, of which none hears anything
// that signs the user in.
func TestStoresThatCannotHaveTheState(t *testing.T) {
	t.Parallel()
	r := newRoam(t)
	alice, bob := r.user("alice"), r.user("bob")
	r.start("https://closed.test.example", keyserver.Options{Registration: keyserver.RegistrationInvitation})
	r.start("https://lying.test.example", keyserver.Options{})
	r.stores["https://other.test.example"] = r.stores[storeA]
	bob.moves(StoreTarget{Origin: storeA, Username: "taken"})
	id := alice.ensureDialog(bob)
	for target, want := range map[StoreTarget]string{
		{Origin: "https://closed.test.example", Username: "alice"}:                      "invitation",
		{Origin: "https://closed.test.example", Username: "alice", Invitation: "wrong"}: "invitation",
		{Origin: "https://other.test.example", Username: "alice"}:                       "origin",
		{Origin: storeA, Username: "taken"}:                                             "taken",
		{Origin: storeA, Username: ""}:                                                  "user name",
		{Origin: storeA, Username: "with space"}:                                        "user name",
		{}:                                                                              "already",
	} {
		err := alice.MoveStore(t.Context(), target, nil)
		var refused *TargetError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", target, err)
		}
		alice.isAt("")
	}
	if err := alice.MoveStore(t.Context(), StoreTarget{Origin: "https://nowhere.test.example", Username: "x"}, nil); err == nil {
		t.Error("moved nowhere")
	}
	alice.isAt("")
	code, _, err := r.stores["https://closed.test.example"].Handler.CreateInvitation(t.Context(), time.Hour, "")
	if err != nil {
		t.Fatal(err)
	}
	alice.moves(StoreTarget{Origin: "https://closed.test.example", Username: "alice", Invitation: code})
	bob.cleanSync()
	bob.reads(alice.encrypt(id, "invited"), "invited", alice)
}

// Devices that are online write and commit while the state moves: nothing is
// lost, and reading is possible at every moment.
func TestDevicesOnlineDuringAMove(t *testing.T) {
	t.Parallel()
	r := newRoam(t)
	alice, bob := r.user("alice"), r.user("bob")
	phone, tablet := alice.sibling(), alice.sibling()
	id := newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	old := bob.encrypt(id, "from before")
	for _, d := range []*device{phone, tablet} {
		d.cleanSync()
	}
	type written struct {
		text string
		b    []byte
	}
	var mu sync.Mutex
	var all []written
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for i, d := range []*device{phone, tablet} {
		busy.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if p, err := d.Decrypt(t.Context(), d.self, old); err != nil || string(p.Data) != "from before" {
					t.Errorf("reading during the move: %v", err)
					return
				}
				text := fmt.Sprintf("device %d, number %d", i, n)
				b, err := d.Encrypt(t.Context(), d.self, id, []byte(text), nil)
				if err == nil && n%5 == i {
					_, err = d.commit(t.Context(), d.self, id, func(*conversationRecord) (*change, error) { return &change{renew: true}, nil })
				}
				switch {
				case errors.Is(err, ErrMoving), errors.Is(err, ErrBusy):
				case err != nil:
					t.Errorf("writing during the move: %v", err)
					return
				case b != nil:
					mu.Lock()
					all = append(all, written{text, b})
					mu.Unlock()
				}
			}
		})
	}
	for _, to := range []StoreTarget{{Origin: storeA, Username: "a"}, {Origin: storeB, Username: "b"}, {}} {
		alice.moves(to)
		count := func() int {
			mu.Lock()
			defer mu.Unlock()
			return len(all)
		}
		for n, tries := count(), 0; count() < n+4 && tries < 3000 && !t.Failed(); tries++ {
			time.Sleep(10 * time.Millisecond) // the others go on for a while
		}
	}
	close(stop)
	busy.Wait()
	if len(all) < 10 {
		t.Fatalf("%d messages: the test shows nothing", len(all))
	}
	bob.mustSync()
	for _, d := range []*device{alice, phone, tablet, bob} {
		d.mustSync()
		for _, w := range all {
			d.reads(w.b, w.text, alice)
		}
	}
	r.goesOn(id, tablet, phone, alice, bob)
}
