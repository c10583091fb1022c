package keyserver_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// mover is a user with a home store, and another one to move to.
type mover struct {
	*person
	old, next *keyclient.Client
	there     *person
	n         uint64 // number of the move
}

func newMover(t *testing.T, objects int) *mover {
	w := newWorld(t, keyserver.Options{})
	next := keyservertest.NewServer(t, keyservertest.Options{Server: keyserver.Options{Now: w.clock.now, Origin: "https://next.example"}})
	m := &mover{person: w.register("alice"), old: w.c, next: next.Client(), n: 1}
	m.there = (&world{Server: next, t: t, clock: w.clock, c: m.next}).register("alice")
	for i := range objects {
		if _, err := m.tx(keyapi.Tx{Put: []keyapi.Object{put(fmt.Sprint(i), 1, "first")}}); err != nil {
			t.Fatal(err)
		}
		if _, err := m.tx(keyapi.Tx{Put: []keyapi.Object{put(fmt.Sprint(i), 2, fmt.Sprint("second ", i))}}); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *mover) step(c *keyclient.Client, change string, hash []byte) (keyapi.StorePlace, error) {
	s := keyapi.StoreMove{Change: change, Move: m.n, IndexHash: hash}
	if change == keyapi.MoveLeave {
		s.To = "https://next.example"
	}
	return c.MoveStore(m.w.t.Context(), m.at(c), s)
}

// at is the token at one of the stores.
func (m *mover) at(c *keyclient.Client) string {
	if c == m.next {
		return m.there.token()
	}
	return m.token()
}

func (m *mover) must(c *keyclient.Client, change string, hash []byte) keyapi.StorePlace {
	m.w.t.Helper()
	for range 2 { // each step may be repeated
		if _, err := m.step(c, change, hash); err != nil {
			m.w.t.Fatalf("%s: %v", change, err)
		}
	}
	return m.place(c)
}

func (m *mover) place(c *keyclient.Client) keyapi.StorePlace {
	m.w.t.Helper()
	p, err := c.StorePlace(m.w.t.Context(), m.at(c))
	if err != nil {
		m.w.t.Fatal(err)
	}
	return p
}

// A move loses nothing and forks nothing while another device is online: what
// it wrote before is there, what it writes meanwhile is refused, and afterwards
// it is told where to go.
func TestStateMovesWithoutLoss(t *testing.T) {
	m := newMover(t, 12)
	ctx := t.Context()
	leaving := m.must(m.old, keyapi.MoveLeave, nil)
	if leaving.Place != keyapi.PlaceLeaving || leaving.Objects != 12 || leaving.To != "https://next.example" {
		t.Fatalf("%+v", leaving)
	}
	_, err := m.tx(keyapi.Tx{Put: []keyapi.Object{put("0", 3, "meanwhile")}})
	if p := wantCode(t, err, keyapi.CodeMoved); p.MovedTo != "" {
		t.Errorf("it is not decided, yet devices are sent to %s", p.MovedTo)
	}
	m.must(m.next, keyapi.MoveArrive, nil)
	_, err = m.next.Tx(ctx, m.there.token(), keyapi.Tx{Put: []keyapi.Object{put("x", 1, "too early")}})
	wantCode(t, err, keyapi.CodeMoved)
	_, err = m.next.ObjectIndex(ctx, m.there.token())
	wantCode(t, err, keyapi.CodeMoved)

	index, err := m.old.ObjectIndex(ctx, m.token())
	if err != nil || !bytes.Equal(keyapi.IndexHash(index.Objects), leaving.IndexHash) {
		t.Fatalf("index: %v", err)
	}
	for i, v := range index.Objects {
		got, err := m.old.Objects(ctx, m.token(), []keyapi.ObjectID{v.ID})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := m.next.ImportObjects(ctx, m.there.token(), keyapi.StoreImport{Move: m.n, Objects: got.Objects}); err != nil {
				t.Fatal(err)
			}
		}
		if i == 5 {
			_, err = m.step(m.next, keyapi.MoveOpen, leaving.IndexHash)
			wantCode(t, err, keyapi.CodeConflict)
			changed := got.Objects[0]
			changed.Data = []byte("other octets")
			_, err = m.next.ImportObjects(ctx, m.there.token(), keyapi.StoreImport{Move: m.n, Objects: []keyapi.Object{changed}})
			wantCode(t, err, keyapi.CodeConflict)
		}
	}
	m.must(m.next, keyapi.MoveOpen, leaving.IndexHash)
	_, err = m.step(m.old, keyapi.MoveGo, random(32))
	wantCode(t, err, keyapi.CodeConflict)
	m.must(m.old, keyapi.MoveGo, leaving.IndexHash)

	_, err = m.old.ObjectIndex(ctx, m.token())
	if p := wantCode(t, err, keyapi.CodeMoved); p.MovedTo != "https://next.example" {
		t.Errorf("devices are sent to %q", p.MovedTo)
	}
	_, err = m.tx(keyapi.Tx{Put: []keyapi.Object{put("0", 3, "late")}})
	wantCode(t, err, keyapi.CodeMoved)
	moved, err := m.next.ObjectIndex(ctx, m.there.token())
	if err != nil || !bytes.Equal(keyapi.IndexHash(moved.Objects), leaving.IndexHash) {
		t.Fatalf("what arrived: %v", err)
	}
	_, err = m.next.Tx(ctx, m.there.token(), keyapi.Tx{Put: []keyapi.Object{put("0", 3, "on")}})
	wantCode(t, err, keyapi.CodeMoved) // for all that this store knows it is not decided
	m.must(m.next, keyapi.MoveUse, nil)
	if _, err := m.next.Tx(ctx, m.there.token(), keyapi.Tx{Put: []keyapi.Object{put("0", 3, "on")}}); err != nil {
		t.Errorf("going on: %v", err)
	}
	_, err = m.step(m.old, keyapi.MoveStay, nil)
	wantCode(t, err, keyapi.CodeConflict)
}

// A move that is given up leaves everything as it was.
func TestMoveCanBeGivenUp(t *testing.T) {
	m := newMover(t, 2)
	m.must(m.old, keyapi.MoveLeave, nil)
	m.must(m.old, keyapi.MoveStay, nil)
	if _, err := m.tx(keyapi.Tx{Put: []keyapi.Object{put("0", 3, "on")}}); err != nil {
		t.Error(err)
	}
}

func TestMovesOutOfOrder(t *testing.T) {
	m := newMover(t, 1)
	here, err := m.old.StorePlace(t.Context(), m.token())
	if err != nil || here.Place != keyapi.PlaceHere {
		t.Fatalf("%+v %v", here, err)
	}
	_, err = m.step(m.old, keyapi.MoveGo, here.IndexHash)
	wantCode(t, err, keyapi.CodeConflict)
	_, err = m.step(m.old, keyapi.MoveArrive, nil) // there are objects
	wantCode(t, err, keyapi.CodeConflict)
	_, err = m.step(m.old, "vanish", nil)
	wantCode(t, err, keyapi.CodeInvalid)
	_, err = m.old.ImportObjects(t.Context(), m.token(), keyapi.StoreImport{Move: m.n, Objects: []keyapi.Object{put("z", 7, "z")}})
	wantCode(t, err, keyapi.CodeConflict)
	for _, to := range []string{"", "next.example", "http://next.example", "https://user@next.example", "https://next.example?x=1", "javascript:alert(1)"} {
		_, err := m.old.MoveStore(t.Context(), m.token(), keyapi.StoreMove{Change: keyapi.MoveLeave, Move: 1, To: to})
		wantCode(t, err, keyapi.CodeInvalid)
	}
}

// Who has moved to another store changes the password here as well, without the
// objects, which are changed there before; in between, and here, with them.
func TestPasswordAfterAMove(t *testing.T) {
	m := newMover(t, 0)
	fresh := random(32)
	bare := func(old, next []byte) error {
		r := m.change(old, next, keyapi.Object{})
		r.Tx = keyapi.Tx{}
		_, err := m.old.ChangePassword(t.Context(), m.token(), r)
		return err
	}
	leaving := m.must(m.old, keyapi.MoveLeave, nil)
	wantCode(t, bare(m.auth, fresh), keyapi.CodeInvalid)
	m.must(m.old, keyapi.MoveGo, leaving.IndexHash)
	_, err := m.old.ChangePassword(t.Context(), m.token(), m.change(m.auth, fresh, put("wraps", 1, "x")))
	wantCode(t, err, keyapi.CodeMoved)
	wantCode(t, bare(random(32), fresh), keyapi.CodeForbidden)
	r := m.change(m.auth, fresh, keyapi.Object{})
	r.Tx = keyapi.Tx{Delete: []keyapi.Expect{{ID: objectID("wraps"), Counter: 1}}} // nothing is passed over in silence
	_, err = m.old.ChangePassword(t.Context(), m.token(), r)
	wantCode(t, err, keyapi.CodeInvalid)
	if err := bare(m.auth, fresh); err != nil {
		t.Fatal(err)
	}
	if _, err := m.login(newKey(), fresh); err != nil {
		t.Errorf("the new password: %v", err)
	}
}

// copy brings all objects of one store to the other.
func (m *mover) copy(from, to *keyclient.Client) {
	m.w.t.Helper()
	index, err := from.ObjectIndex(m.w.t.Context(), m.at(from))
	if err != nil {
		m.w.t.Fatal(err)
	}
	for _, v := range index.Objects {
		got, err := from.Objects(m.w.t.Context(), m.at(from), []keyapi.ObjectID{v.ID})
		if err == nil {
			_, err = to.ImportObjects(m.w.t.Context(), m.at(to), keyapi.StoreImport{Move: m.n, Objects: got.Objects})
		}
		if err != nil {
			m.w.t.Fatal(err)
		}
	}
}

// What is gone is deleted, in transactions of a bounded size, and may come back:
// a store is no dead end.
func TestStateMovesBack(t *testing.T) {
	const n = keyserver.FreeAtOnce + 9
	m := newMover(t, n)
	leaving := m.must(m.old, keyapi.MoveLeave, nil)
	m.must(m.next, keyapi.MoveArrive, nil)
	m.copy(m.old, m.next)
	m.must(m.next, keyapi.MoveOpen, leaving.IndexHash)
	m.must(m.old, keyapi.MoveGo, leaving.IndexHash)
	if _, err := m.step(m.old, keyapi.MoveGo, nil); err != nil { // of what was deleted nobody knows the hash
		t.Errorf("the last step again: %v", err)
	}
	if p, err := m.old.StorePlace(t.Context(), m.token()); err != nil || p.Place != keyapi.PlaceGone || p.Objects != 0 || p.Bytes != 0 {
		t.Fatalf("objects that are gone: %+v, %v", p, err)
	}

	m.must(m.next, keyapi.MoveUse, nil)
	if _, err := m.next.Tx(t.Context(), m.there.token(), keyapi.Tx{Put: []keyapi.Object{put("0", 3, "abroad")}}); err != nil {
		t.Fatal(err)
	}
	m.n = 2
	s := keyapi.StoreMove{Change: keyapi.MoveLeave, Move: m.n, To: "https://keys.test"}
	leaving, err := m.next.MoveStore(t.Context(), m.there.token(), s)
	if err != nil {
		t.Fatal(err)
	}
	if p := m.must(m.old, keyapi.MoveArrive, nil); p.Place != keyapi.PlaceArriving || p.Objects != 0 {
		t.Fatalf("%+v", p)
	}
	m.copy(m.next, m.old)
	// Given up: what has arrived is deleted, and whoever asks is sent where the
	// objects are, as before.
	if p := m.must(m.old, keyapi.MoveAbandon, nil); p.Place != keyapi.PlaceGone || p.To != "https://next.example" {
		t.Fatalf("%+v", p)
	}
	_, err = m.step(m.old, keyapi.MoveAbandon, nil)
	if err != nil {
		t.Errorf("once more: %v", err)
	}
	m.n = 3
	if _, err := m.next.MoveStore(t.Context(), m.there.token(), keyapi.StoreMove{Change: keyapi.MoveStay, Move: 2}); err != nil {
		t.Fatal(err)
	}
	s.Move = m.n
	if _, err := m.next.MoveStore(t.Context(), m.there.token(), s); err != nil {
		t.Fatal(err)
	}
	if p := m.must(m.old, keyapi.MoveArrive, nil); p.Objects != 0 {
		t.Fatalf("what was given up is there still: %+v", p)
	}
	m.copy(m.next, m.old)
	m.must(m.old, keyapi.MoveOpen, leaving.IndexHash)
	m.must(m.next, keyapi.MoveGo, leaving.IndexHash)
	m.must(m.old, keyapi.MoveUse, nil)
	if _, err := m.tx(keyapi.Tx{Put: []keyapi.Object{put("0", 4, "home again")}}); err != nil {
		t.Error(err)
	}
	_, err = m.step(m.old, keyapi.MoveAbandon, nil) // what is here is not given up
	wantCode(t, err, keyapi.CodeConflict)
}

// Directions change by compare-and-swap, whatever the place of the objects, and
// are the user's own.
func TestDirections(t *testing.T) {
	m := newMover(t, 1)
	ctx := t.Context()
	set := func(counter uint64, data string) error {
		_, err := m.old.SetDirections(ctx, m.token(), keyapi.Directions{Counter: counter, Data: []byte(data)})
		return err
	}
	have := func(c *keyclient.Client, token string) *keyapi.Directions {
		p, err := c.StorePlace(ctx, token)
		if err != nil {
			t.Fatal(err)
		}
		return p.Directions
	}
	if d := have(m.old, m.token()); d != nil {
		t.Fatalf("from the beginning: %+v", d)
	}
	wantCode(t, set(0, "x"), keyapi.CodeInvalid)
	wantCode(t, set(2, "x"), keyapi.CodeConflict)
	wantCode(t, set(1, ""), keyapi.CodeInvalid)
	wantCode(t, set(math.MaxUint64, "x"), keyapi.CodeInvalid)
	wantCode(t, set(1, string(make([]byte, keyapi.MaxDirections+1))), keyapi.CodeInvalid)
	for range 2 {
		if err := set(1, "first"); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, set(1, "other"), keyapi.CodeConflict)
	leaving := m.must(m.old, keyapi.MoveLeave, nil)
	if err := set(2, "sealed: nothing to say"); err != nil {
		t.Fatal(err)
	}
	m.must(m.old, keyapi.MoveGo, leaving.IndexHash)
	if err := set(3, string(make([]byte, keyapi.MaxDirections))); err != nil {
		t.Fatal(err)
	}
	if d := have(m.old, m.token()); d == nil || d.Counter != 3 || len(d.Data) != keyapi.MaxDirections {
		t.Errorf("%+v", d)
	}
	if d := have(m.old, m.w.register("bob").token()); d != nil {
		t.Errorf("of somebody else: %+v", d)
	}
	wantCode(t, func() error {
		_, err := m.old.SetDirections(ctx, m.there.token(), keyapi.Directions{Counter: 4, Data: []byte("x")})
		return err
	}(), keyapi.CodeUnauthorized)
}
