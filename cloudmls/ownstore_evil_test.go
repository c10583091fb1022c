package cloudmls

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// deviceID is how the user's other devices call a device.
func deviceID(t *testing.T, d *device) string {
	t.Helper()
	for _, x := range d.listed(t) {
		if x.This {
			return x.ID
		}
	}
	t.Fatal("the device does not list itself")
	return ""
}

func (d *device) listed(t *testing.T) []Device {
	t.Helper()
	list, err := d.Devices(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// lair is a world in which home and both stores lie.
type lair struct {
	*world
	home  *evil.Server
	own   map[string]*evil.Server
	mu    sync.Mutex
	asked []string // origins that were dialed
}

func newLair(t *testing.T) *lair {
	t.Helper()
	l := &lair{world: newWorld(t), own: map[string]*evil.Server{}}
	l.home = evil.NewServer(t, evil.Options{Server: keyserver.Options{Now: l.clock.now}})
	l.ks = l.home.Server
	for _, origin := range []string{storeA, storeB} {
		l.own[origin] = evil.NewServer(t, evil.Options{Server: keyserver.Options{Now: l.clock.now, Origin: origin}})
	}
	l.dialStore = func(_ context.Context, origin string) (StoreServer, error) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.asked = append(l.asked, origin)
		if s := l.own[origin]; s != nil {
			return s.Server.Client(), nil
		}
		return nil, fmt.Errorf("no route to %s", origin)
	}
	return l
}

func (l *lair) wasAsked(origin string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Contains(l.asked, origin)
}

// movedTo answers as a store that was left.
func movedTo(origin string) evil.Act {
	return evil.Say(409, keyapi.Problem{Status: 409, Code: keyapi.CodeMoved, MovedTo: origin})
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// A store, or the home store, sends a device where none of the user's devices said
// to go: nothing is sent there, least of all what signs in.
func TestThreat04_MovedToAStranger(t *testing.T) {
	t.Parallel()
	const stranger = "https://stranger.test.example"
	for _, from := range []string{"", storeA} {
		t.Run("from "+from, func(t *testing.T) {
			t.Parallel()
			l := newLair(t)
			alice := l.user("alice")
			liar := l.home
			if from != "" {
				alice.moves(StoreTarget{Origin: from, Username: "alice"})
				liar = l.own[from]
			}
			gone := func(p *keyapi.StorePlace) { p.Place, p.To = keyapi.PlaceGone, stranger }
			liar.Always(evil.To("POST", "/v1/objects"), movedTo(stranger))
			liar.Always(evil.To("GET", "/v1/objects"), movedTo(stranger))
			liar.Always(evil.To("GET", "/v1/store"), evil.Edit(gone))
			if _, err := alice.Sync(t.Context(), alice.self); err == nil {
				t.Error("followed")
			}
			if _, err := Open(t.Context(), alice.username, password, l.options(NewMemoryStore())); err == nil {
				t.Error("a new device followed")
			}
			if l.wasAsked(stranger) {
				t.Error("the stranger was asked")
			}
			liar.StopAll()
			if _, err := alice.Sync(t.Context(), alice.self); err != nil {
				t.Errorf("when it tells the truth again: %v", err)
			}
		})
	}
}

// The home store serves older directions, or another user's, or ones of its own
// making: a device that has seen newer ones follows none of them.
func TestThreat16_OlderDirections(t *testing.T) {
	t.Parallel()
	l := newLair(t)
	alice := l.user("alice")
	phone := alice.sibling()
	alice.moves(StoreTarget{Origin: storeA, Username: "alice"})
	phone.isAt(storeA)
	var old keyapi.StorePlace
	if err := json.Unmarshal([]byte(mustJSON(l.placeOf(t, alice))), &old); err != nil {
		t.Fatal(err)
	}
	alice.moves(StoreTarget{Origin: storeB, Username: "alice"})
	phone.isAt(storeB)
	lie := l.home.Always(evil.To("GET", "/v1/store"), evil.Edit(func(p *keyapi.StorePlace) { *p = old }))
	var rollback *RollbackError
	if _, err := phone.Store(t.Context()); !errors.As(err, &rollback) {
		t.Errorf("older directions: %v", err)
	}
	// A new device cannot know that they are old. The store that it is sent to
	// does, and says so; the directions do not name where to.
	if _, err := Open(t.Context(), alice.username, password, l.options(NewMemoryStore())); err == nil {
		t.Error("a new device found the state in spite of older directions")
	}
	lie.Stop()
	for name, data := range map[string][]byte{
		"malformed": []byte("CMD1"), "empty": nil, "huge count": append([]byte("CMD1"), 0xff, 0xff, 0xff, 0xff),
		"another counter": old.Directions.Data,
	} {
		lie := l.home.Always(evil.To("GET", "/v1/store"), evil.Edit(func(p *keyapi.StorePlace) {
			p.Directions.Counter++
			p.Directions.Data = data
		}))
		if _, err := Open(t.Context(), alice.username, password, l.options(NewMemoryStore())); err == nil {
			t.Errorf("%s: a new device signed in", name)
		}
		lie.Stop()
	}
	phone.isAt(storeB)
}

// placeOf is what the home store says to a device.
func (l *lair) placeOf(t *testing.T, d *device) keyapi.StorePlace {
	t.Helper()
	var at keyapi.StorePlace
	err := d.Client.store.Authorized(t.Context(), func(ctx context.Context, token string) (err error) {
		at, err = d.o.Server.(StoreServer).StorePlace(ctx, token)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// A store that was moved to shows an older state, or that of the move while the
// user has gone on elsewhere.
func TestThreat16_OlderStateAtAnotherStore(t *testing.T) {
	t.Parallel()
	l := newLair(t)
	alice, bob := l.user("alice"), l.user("bob")
	phone := alice.sibling()
	phone.cleanSync()
	id := alice.ensureDialog(bob)
	alice.moves(StoreTarget{Origin: storeA, Username: "alice"})
	phone.isAt(storeA)
	old := l.own[storeA].ObjectsOf("alice")
	alice.renewKeys(id)
	phone.mustSync()
	l.own[storeA].SetObjects("alice", old)
	var rollback *RollbackError
	if _, err := phone.Sync(t.Context(), phone.self); !errors.As(err, &rollback) {
		t.Errorf("an older state: %v", err)
	}
}

// The new store loses an object, changes one, or says that all is well where it is
// not: the old one lets go of nothing.
func TestThreat19_CopyIsNotWhatWasCopied(t *testing.T) {
	t.Parallel()
	lies := map[string]func(l *lair, s *evil.Server){
		"an object is missing": func(_ *lair, s *evil.Server) {
			s.Index(nil, func(i *keyapi.ObjectIndex) { i.Objects = i.Objects[:len(i.Objects)-1] })
		},
		"an object is another one": func(_ *lair, s *evil.Server) {
			s.Index(nil, func(i *keyapi.ObjectIndex) { i.Objects[len(i.Objects)-1].Hash = bytes.Repeat([]byte{1}, 32) })
		},
		"the octets are not there": func(_ *lair, s *evil.Server) {
			s.Always(evil.To("POST", "/v1/objects"), evil.Edit(func(o *keyapi.ObjectList) {
				for i := range o.Objects {
					o.Objects[i].Data[0] ^= 1
				}
			}))
		},
		"a part was not taken": func(_ *lair, s *evil.Server) {
			s.Always(evil.To("POST", "/v1/store/import"), evil.EditRequest(func(i *keyapi.StoreImport) { i.Objects = i.Objects[1:] }))
		},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLair(t)
			alice, bob := l.user("alice"), l.user("bob")
			id := alice.ensureDialog(bob)
			lie(l, l.own[storeA])
			if err := alice.MoveStore(t.Context(), StoreTarget{Origin: storeA, Username: "alice"}, nil); err == nil {
				t.Fatal("moved")
			}
			if at := l.placeOf(t, alice); at.Place == keyapi.PlaceGone || at.Objects == 0 {
				t.Fatalf("%+v", at)
			}
			l.own[storeA].StopAll()
			if err := alice.ResumeMove(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			bob.cleanSync()
			bob.reads(alice.encrypt(id, "in spite of it"), "in spite of it", alice)
		})
	}
}

// The old store shows an older object while it is copied: it is not copied.
func TestThreat16_OldStoreWindsBackWhatLeaves(t *testing.T) {
	t.Parallel()
	l := newLair(t)
	alice := l.user("alice")
	lied := false
	l.home.Always(evil.To("POST", "/v1/objects"), evil.Edit(func(o *keyapi.ObjectList) {
		if len(o.Objects) > 4 { // a copy, not what a device reads for itself
			lied = true
			o.Objects[4].Data[len(o.Objects[4].Data)-1] ^= 1
		}
	}))
	var rollback *RollbackError
	if err := alice.MoveStore(t.Context(), StoreTarget{Origin: storeA, Username: "alice"}, nil); !errors.As(err, &rollback) {
		t.Errorf("moved: %v", err)
	}
	if !lied {
		t.Error("nothing was asked for")
	}
}

// TestThreat13_RevokedDeviceAtAnOwnStore: what a dropped device knows of the login
// at the store is worth nothing any more, at once; nor are the directions for it.
func TestThreat13_RevokedDeviceAtAnOwnStore(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"revoked", "rotated"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			r := newRoam(t)
			alice, bob := r.user("alice"), r.user("bob")
			phone, tablet := alice.sibling(), alice.sibling()
			id := alice.ensureDialog(bob)
			bob.cleanSync()
			alice.moves(StoreTarget{Origin: storeA, Username: "alice"})
			for _, d := range []*device{phone, tablet} {
				d.mustSync()
				d.isAt(storeA)
			}
			lost := deviceID(t, phone)
			before := r.loginsAt(storeA)
			if len(before) == 0 || !r.signsIn(storeA, before[len(before)-1]) {
				t.Fatalf("%d logins", len(before))
			}
			tablet.mustSync()
			r.wire.reset()
			var err error
			if how == "revoked" {
				err = alice.RevokeDevice(t.Context(), lost)
			} else {
				err = alice.Rotate(t.Context(), RotateOptions{Devices: []string{lost}})
			}
			if err != nil {
				t.Fatal(err)
			}
			raw, err := hex.DecodeString(lost)
			if err != nil {
				t.Fatal(err)
			}
			left := 0
			for _, e := range r.wire.requests() {
				if !e.is("POST", "/v1/store/directions") {
					continue
				}
				left++
				if bytes.Contains(decodeJSON[keyapi.Directions](t, e.sent).Data, raw) {
					t.Error("directions with the next login are sealed to the dropped device")
				}
			}
			if left < 2 {
				t.Errorf("directions were changed %d times", left)
			}
			for i, restarted := range []bool{false, true} {
				if restarted {
					phone.crash()
				}
				if _, err := phone.Store(t.Context()); err == nil {
					t.Errorf("%d: a dropped device asks on", i)
				}
			}
			if r.signsIn(storeA, before[len(before)-1]) {
				t.Error("the login that the dropped device knows signs in")
			}
			for _, d := range []*device{tablet, alice} {
				d.isAt(storeA)
			}
			r.goesOn(id, tablet, alice, bob)
			r.new(alice, password).isAt(storeA)
		})
	}
}

// loginsAt collects the logins that a store was shown.
func (r *roam) loginsAt(origin string) (all []keyapi.LoginRequest) {
	for _, e := range r.wires[origin].requests() {
		if e.is("POST", "/v1/auth/login") {
			all = append(all, decodeJSON[keyapi.LoginRequest](r.t, e.sent))
		}
	}
	return all
}

// signsIn tries a login at a store, as another device would.
func (r *roam) signsIn(origin string, l keyapi.LoginRequest) bool {
	r.t.Helper()
	l.Device.Key = bytes.Repeat([]byte{7}, 32)
	_, err := r.stores[origin].Client().Login(r.t.Context(), l)
	var p *keyapi.Problem
	if err != nil && (!errors.As(err, &p) || p.Code != keyapi.CodeUnauthorized && p.Code != keyapi.CodeRateLimited) {
		r.t.Fatal(err)
	}
	return err == nil
}

// TestThreat01_OwnStoreLearnsNothing: what a store of the user's own is sent to sign
// in is not made from the password, and changes with neither password nor code.
func TestThreat01_OwnStoreLearnsNothing(t *testing.T) {
	t.Parallel()
	r := newRoam(t)
	alice := r.user("alice")
	alice.moves(StoreTarget{Origin: storeA, Username: "alice"})
	if err := alice.ChangePassword(t.Context(), password, "another horse, another battery"); err != nil {
		t.Fatal(err)
	}
	r.new(alice, "another horse, another battery")
	home, own := r.authsOf(""), r.authsOf(storeA)
	if len(home) < 2 {
		t.Fatalf("%d secrets seen at home", len(home))
	}
	if len(own) != 1 {
		t.Errorf("%d different secrets seen at the store, want 1", len(own))
	}
	for a := range own {
		if home[a] {
			t.Error("the same secret signs in at both")
		}
	}
	params := 0
	for _, e := range r.wires[storeA].requests() {
		if e.is("POST", "/v1/auth/params") {
			params++
		}
	}
	if params != 0 {
		t.Error("the store was asked how to stretch the password")
	}
}

// authsOf collects what was sent to sign in.
func (r *roam) authsOf(origin string) map[string]bool {
	all := map[string]bool{}
	for _, e := range r.wires[origin].requests() {
		switch {
		case e.is("POST", "/v1/auth/login"):
			all[string(decodeJSON[keyapi.LoginRequest](r.t, e.sent).Auth)] = true
		case e.is("POST", "/v1/auth/register"):
			all[string(decodeJSON[keyapi.RegisterRequest](r.t, e.sent).Auth)] = true
		case e.is("POST", "/v1/auth/password"):
			q := decodeJSON[keyapi.PasswordRequest](r.t, e.sent)
			all[string(q.Auth)], all[string(q.OldAuth)] = true, true
		}
	}
	return all
}

// A device goes over to no store that says that it does not have the state, or has it by a move
// that no device of the user has named: it waits, and reads on when that is over.
func TestThreat16_StoreIsNotReady(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func(*keyapi.StorePlace){
		"arriving":             func(p *keyapi.StorePlace) { p.Place = keyapi.PlaceArriving },
		"a move of the future": func(p *keyapi.StorePlace) { p.Move = 1 << 40 },
	} {
		l := newLair(t)
		alice := l.user("alice")
		phone := alice.sibling()
		alice.moves(toA)
		phone.isAt(storeA)
		alice.moves(toB)
		l.own[storeB].Always(evil.To("GET", "/v1/store"), evil.Edit(lie))
		if _, err := phone.Sync(t.Context(), phone.self); !errors.Is(err, ErrMoving) {
			t.Errorf("%s: %v", name, err)
		}
		l.own[storeB].StopAll()
		phone.isAt(storeB)
	}
}

// leaves tells whether a request is the step by which a store lets go of its writes.
func leaves(e *evil.Exchange) bool {
	return evil.To("POST", "/v1/store")(e) && bytes.Contains(e.Sent, []byte(`"change":"leave"`))
}

// lists tells whether a request is for the list of objects.
func lists(e *evil.Exchange) bool { return e.Method == "GET" && e.Path == "/v1/objects" }

// The old store shows another list once it takes no writes: without an object, or with an older
// one of those that the head does not list. Nothing of that is copied.
func TestThreat16_ListOfWhatLeavesIsAnother(t *testing.T) {
	t.Parallel()
	for name, lie := range map[string]func(l *lair, user string, old evil.State){
		"an object is missing": func(l *lair, _ string, _ evil.State) {
			l.home.Always(lists, evil.Edit(func(i *keyapi.ObjectIndex) {
				at := slices.IndexFunc(i.Objects, func(o keyapi.ObjectVersion) bool { return o.ID[0] != typeOfSender })
				i.Objects = slices.Delete(i.Objects, at, at+1)
			}))
		},
		"a counter is none": func(l *lair, _ string, _ evil.State) {
			l.home.Always(lists, evil.Edit(func(i *keyapi.ObjectIndex) {
				i.Objects[slices.IndexFunc(i.Objects, func(o keyapi.ObjectVersion) bool { return o.ID[0] == typeOfSender })].Counter = 0
			}))
		},
		"generations are older": func(l *lair, user string, old evil.State) {
			now := l.home.ObjectsOf(user)
			wound := 0
			for id := range now {
				if o, ok := old[id]; ok && id[0] == typeOfSender && o.Counter < now[id].Counter {
					now[id] = o
					wound++
				}
			}
			if wound == 0 {
				t.Error("no generations were reserved")
			}
			l.home.SetObjects(user, now)
		},
	} {
		l := newLair(t)
		alice, bob := l.user("alice"), l.user("bob")
		id := alice.ensureDialog(bob)
		bob.cleanSync()
		alice.encrypt(id, "one")
		old := l.home.ObjectsOf(alice.username)
		for i := range 40 { // a block of generations, and another one
			alice.encrypt(id, fmt.Sprint(i))
		}
		l.home.Once(leaves, func(e *evil.Exchange, serve func()) {
			serve()
			lie(l, alice.username, old)
		})
		copied := false
		l.own[storeA].Always(evil.To("POST", "/v1/store/import"), func(_ *evil.Exchange, serve func()) {
			copied = true
			serve()
		})
		var rollback *RollbackError
		err := alice.MoveStore(t.Context(), toA, nil)
		if !errors.As(err, &rollback) {
			t.Errorf("%s: %v", name, err)
		}
		if copied {
			t.Errorf("%s: it was copied", name)
		}
	}
}

// typeOfSender is the first octet of the ids of objects that the head does not list.
const typeOfSender = 10
