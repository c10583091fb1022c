package keyserver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// notedStore counts the notes that are put, and deletes nothing while it is told
// not to.
type notedStore struct {
	keyserver.Store
	notes atomic.Int32
	stuck atomic.Bool
}

type notedWriter struct {
	keyserver.Writer
	s *notedStore
}

func (s *notedStore) Update(ctx context.Context, fn func(keyserver.Writer) error) error {
	return s.Store.Update(ctx, func(w keyserver.Writer) error { return fn(&notedWriter{w, s}) })
}

func (w *notedWriter) PutNote(n *keyserver.Note) error {
	w.s.notes.Add(1)
	return w.Writer.PutNote(n)
}

func (w *notedWriter) DeleteObject(u keyserver.UserID, id keyapi.ObjectID) error {
	if w.s.stuck.Load() {
		return errors.New("the store is stuck")
	}
	return w.Writer.DeleteObject(u, id)
}

// lone is a user at one store that is told of moves by hand.
type lone struct {
	*person
	store *notedStore
}

func newLone(t *testing.T, o keyserver.Options) *lone {
	store := &notedStore{Store: newStore(t)}
	o.Store = store
	return &lone{newWorld(t, o).register("alice"), store}
}

func (p *lone) do(s keyapi.StoreMove) error {
	if s.Change == keyapi.MoveLeave && s.To == "" {
		s.To = theOther
	}
	_, err := p.w.c.MoveStore(p.w.t.Context(), p.token(), s)
	return err
}

func (p *lone) must(changes ...keyapi.StoreMove) {
	p.w.t.Helper()
	for _, s := range changes {
		if err := p.do(s); err != nil {
			p.w.t.Fatalf("%s %d: %v", s.Change, s.Move, err)
		}
	}
}

func (p *lone) bring(move uint64, objects ...keyapi.Object) error {
	_, err := p.w.c.ImportObjects(p.w.t.Context(), p.token(), keyapi.StoreImport{Move: move, Objects: objects})
	return err
}

func (p *lone) where() keyapi.StorePlace {
	p.w.t.Helper()
	at, err := p.w.c.StorePlace(p.w.t.Context(), p.token())
	if err != nil {
		p.w.t.Fatal(err)
	}
	return at
}

// wantAt: the objects are at this place, by this move, so many of them.
func (p *lone) wantAt(place string, move uint64, to string, objects int) {
	p.w.t.Helper()
	if at := p.where(); at.Place != place || at.Move != move || at.To != to || at.Objects != objects {
		p.w.t.Fatalf("%+v, want %s by %d to %q with %d objects", at, place, move, to, objects)
	}
}

func (p *lone) write(o keyapi.Object) {
	p.w.t.Helper()
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{o}}); err != nil {
		p.w.t.Fatal(err)
	}
}

func change(what string, move uint64) keyapi.StoreMove {
	return keyapi.StoreMove{Change: what, Move: move}
}

// open lets an object arrive by a move, and more, and opens it.
func (p *lone) open(move uint64, more ...keyapi.Object) {
	p.w.t.Helper()
	p.must(change(arrive, move))
	if err := p.bring(move, append(more, put("a", 3, "brought"))...); err != nil {
		p.w.t.Fatal(err)
	}
	p.must(keyapi.StoreMove{Change: opens, Move: move, IndexHash: p.where().IndexHash})
}

// A step of a move that was given up and comes late hits nothing of the next one,
// though the objects, and so their hash, are the same.
func TestMoveNumbersLateAtTheOldStore(t *testing.T) {
	p := newLone(t, keyserver.Options{})
	p.write(put("a", 1, "x"))
	hash := p.where().IndexHash
	p.must(change(leave, 1), change(stay, 1), change(leave, 2))
	for _, late := range []keyapi.StoreMove{
		change(leave, 1), change(stay, 1), {Change: goes, Move: 1, IndexHash: hash}, change(abandon, 1), change(arrive, 1),
		{Change: opens, Move: 1, IndexHash: hash},
	} {
		if q := wantCode(t, p.do(late), keyapi.CodeConflict); !strings.Contains(q.Detail, "leaving here by move 2; move 1 is over") {
			t.Errorf("%s: %s", late.Change, q.Detail)
		}
		p.wantAt(leaving, 2, theOther, 1)
	}
	wantCode(t, p.bring(1, put("b", 1, "x")), keyapi.CodeConflict)
	p.must(change(stay, 2))
	wantCode(t, p.do(change(leave, 2)), keyapi.CodeConflict)
	wantCode(t, p.do(keyapi.StoreMove{Change: goes, Move: 2, IndexHash: hash}), keyapi.CodeConflict)
	p.write(put("a", 2, "in use"))
	p.wantAt(here, 0, "", 1)
}

func TestMoveNumbersLateAtTheNewStore(t *testing.T) {
	p := newLone(t, keyserver.Options{})
	object := put("a", 3, "brought")
	p.open(1)
	hash := p.where().IndexHash
	p.must(change(abandon, 1), change(arrive, 2))
	for _, late := range []keyapi.StoreMove{change(arrive, 1), {Change: opens, Move: 1, IndexHash: hash}, change(abandon, 1), {Change: opens, Move: 1}} {
		if q := wantCode(t, p.do(late), keyapi.CodeConflict); !strings.Contains(q.Detail, "objects are arriving here by move 2; move 1 is over") {
			t.Errorf("%s: %s", late.Change, q.Detail)
		}
	}
	if q := wantCode(t, p.bring(1, object), keyapi.CodeConflict); !strings.Contains(q.Detail, "arriving here by move 2; move 1 is over") {
		t.Error(q.Detail)
	}
	wantCode(t, p.bring(3, object), keyapi.CodeConflict)
	wantCode(t, p.bring(0, object), keyapi.CodeInvalid)
	p.wantAt(arriving, 2, "", 0)
	if err := p.bring(2, object); err != nil {
		t.Fatal(err)
	}
	wantCode(t, p.do(change(abandon, 1)), keyapi.CodeConflict)
	wantCode(t, p.do(keyapi.StoreMove{Change: opens, Move: 1, IndexHash: hash}), keyapi.CodeConflict)
	p.must(keyapi.StoreMove{Change: opens, Move: 2, IndexHash: hash})
	p.wantAt(here, 2, "", 1)
	wantCode(t, p.do(change(abandon, 1)), keyapi.CodeConflict)
	p.must(change(uses, 2), change(uses, 2))
	p.write(put("a", 4, "in use"))
	wantCode(t, p.do(change(abandon, 2)), keyapi.CodeConflict)
	wantCode(t, p.do(keyapi.StoreMove{Change: opens, Move: 2, IndexHash: p.where().IndexHash}), keyapi.CodeConflict)
	p.wantAt(here, 0, "", 1)
}

// Who gives a move up says so before the leave of it has arrived, if need be.
func TestMoveNumbersStayBeforeLeave(t *testing.T) {
	p := newLone(t, keyserver.Options{})
	p.write(put("a", 1, "x"))
	p.must(change(stay, 4), change(stay, 4))
	for n := range uint64(4) {
		wantCode(t, p.do(change(leave, n+1)), keyapi.CodeConflict)
	}
	p.must(change(leave, 5))
	wantCode(t, p.do(change(stay, 4)), keyapi.CodeConflict)
	p.must(keyapi.StoreMove{Change: goes, Move: 5, IndexHash: p.where().IndexHash})
	if q := wantCode(t, p.do(change(stay, 5)), keyapi.CodeConflict); !strings.Contains(q.Detail, "gone from here by move 5") {
		t.Error(q.Detail)
	}
	p.wantAt(gone, 5, theOther, 0)
}

// What a move has opened is read and not written, and deleted when the move is
// given up; never once it is in use.
func TestMoveNumbersAbandonWhatWasOpened(t *testing.T) {
	p := newLone(t, keyserver.Options{})
	p.open(1)
	for name, tx := range map[string]keyapi.Tx{
		"put":     {Put: []keyapi.Object{put("b", 1, "x")}},
		"delete":  {Delete: []keyapi.Expect{{ID: objectID("a"), Counter: 3}}},
		"compare": {Expect: []keyapi.Expect{{ID: objectID("a"), Counter: 3}}},
	} {
		_, err := p.tx(tx)
		if q := wantCode(t, err, keyapi.CodeMoved); q.MovedTo != "" || !strings.Contains(q.Detail, "move 1 has opened") {
			t.Errorf("%s: %+v", name, q)
		}
	}
	_, err := p.w.c.ChangePassword(t.Context(), p.token(), p.change(p.auth, random(32), put("wraps", 1, "x")))
	wantCode(t, err, keyapi.CodeMoved)
	if n, _ := p.object(objectID("a")); n != 3 {
		t.Error("what was opened is not read")
	}
	p.wantAt(here, 1, "", 1)
	p.must(change(abandon, 1), change(abandon, 1))
	p.wantAt(here, 0, "", 0)
	p.open(2)
	wantCode(t, p.do(change(uses, 1)), keyapi.CodeConflict)
	p.must(change(uses, 2), change(uses, 2))
	p.wantAt(here, 0, "", 1)
	before := p.store.notes.Load()
	p.write(put("c", 1, "x"))
	if n := p.store.notes.Load() - before; n != 0 {
		t.Errorf("a transaction puts %d notes", n)
	}
	wantCode(t, p.do(change(abandon, 2)), keyapi.CodeConflict)
	p.wantAt(here, 0, "", 2)
}

// What a later move finds of an earlier one is deleted before anything arrives,
// and who asks is sent where the objects had gone before.
func TestMoveNumbersSupersede(t *testing.T) {
	p := newLone(t, keyserver.Options{})
	p.write(put("a", 1, "x"))
	p.must(change(leave, 1))
	p.must(keyapi.StoreMove{Change: goes, Move: 1, IndexHash: p.where().IndexHash}, change(arrive, 2))
	for i := range keyserver.FreeAtOnce + 5 {
		if err := p.bring(2, put(fmt.Sprint(i), 1, "x")); err != nil {
			t.Fatal(err)
		}
	}
	p.must(change(arrive, 3), change(arrive, 3))
	p.wantAt(arriving, 3, theOther, 0)
	p.must(change(abandon, 3))
	p.wantAt(gone, 3, theOther, 0)
	p.must(change(arrive, 4))
	p.must(keyapi.StoreMove{Change: opens, Move: 4, IndexHash: p.where().IndexHash})
	p.wantAt(here, 4, "", 0)
	p.must(change(abandon, 4), change(abandon, 9))
	p.wantAt(gone, 4, theOther, 0)
	wantCode(t, p.do(change(arrive, 9)), keyapi.CodeConflict) // it was abandoned before it came
	p.must(change(arrive, 10), change(abandon, 11))
	p.wantAt(gone, 11, theOther, 0)

	p = newLone(t, keyserver.Options{}) // where they were never gone before
	p.must(change(arrive, 1))
	var many []keyapi.Object
	for i := range keyserver.FreeAtOnce + 5 {
		many = append(many, put(fmt.Sprint(i), 1, "x"))
	}
	if err := p.bring(1, many...); err != nil {
		t.Fatal(err)
	}
	p.must(change(abandon, 1))
	p.wantAt(here, 0, "", 0)
}

// What is gone and was not deleted to the end is deleted when the step is
// repeated; what a given-up move brought sends nobody anywhere meanwhile.
func TestMoveNumbersDeletionIsCutOff(t *testing.T) {
	p := newLone(t, keyserver.Options{})
	p.open(1)
	p.store.stuck.Store(true)
	p.must(change(abandon, 1))
	p.wantAt(gone, 1, "", 1)
	_, err := p.w.c.ObjectIndex(t.Context(), p.token())
	if q := wantCode(t, err, keyapi.CodeMoved); q.MovedTo != "" || !strings.Contains(q.Detail, "abandoned") {
		t.Errorf("%+v", q)
	}
	if err := p.do(change(arrive, 2)); err == nil || keyclient.IsCode(err, keyapi.CodeConflict) {
		t.Errorf("objects arrive where others are not deleted: %v", err)
	}
	p.wantAt(gone, 1, "", 1)
	p.store.stuck.Store(false)
	p.must(change(abandon, 1))
	p.wantAt(here, 0, "", 0)
	p.open(2)
	p.must(change(uses, 2))
	p.write(put("b", 1, "x"))

	p.must(change(leave, 3))
	p.store.stuck.Store(true)
	p.must(keyapi.StoreMove{Change: goes, Move: 3, IndexHash: p.where().IndexHash})
	p.wantAt(gone, 3, theOther, 2)
	p.store.stuck.Store(false)
	p.must(change(goes, 3))
	p.wantAt(gone, 3, theOther, 0)
}

// A move that finds no room is told so before anything changes.
func TestMoveNumbersAnnouncedQuota(t *testing.T) {
	limits := keyserver.Limits{Objects: 3, ObjectBytes: 100}
	p := newLone(t, keyserver.Options{Limits: limits})
	p.must(change(arrive, 1))
	if err := p.bring(1, put("a", 1, "x")); err != nil {
		t.Fatal(err)
	}
	big := func(objects int, bytes int64) keyapi.StoreMove {
		return keyapi.StoreMove{Change: arrive, Move: 2, Objects: objects, Bytes: bytes}
	}
	wantCode(t, p.do(big(-1, 0)), keyapi.CodeInvalid)
	wantCode(t, p.do(big(0, -1)), keyapi.CodeInvalid)
	for _, s := range []keyapi.StoreMove{big(4, 10), big(1, 101), big(4, 0), big(0, 101)} {
		if q := wantCode(t, p.do(s), keyapi.CodeQuota); !strings.Contains(q.Detail, fmt.Sprintf("%d objects of %d octets", s.Objects, s.Bytes)) {
			t.Error(q.Detail)
		}
		p.wantAt(arriving, 1, "", 1)
	}
	if err := p.w.Handler.SetQuota(t.Context(), keyserver.UserID(p.session.UserID), keyserver.Quota{Objects: 4}); err != nil {
		t.Fatal(err)
	}
	wantCode(t, p.do(big(4, 101)), keyapi.CodeQuota)
	p.must(big(4, 100), big(5, 1000)) // it is arriving already
	p.wantAt(arriving, 2, "", 0)
}

func TestMoveNumbersOfBadForm(t *testing.T) {
	p := newLone(t, keyserver.Options{})
	for _, s := range []string{leave, stay, goes, arrive, opens, abandon} {
		for _, n := range []uint64{0, keyapi.MaxMove + 1, 1<<64 - 1} {
			wantCode(t, p.do(change(s, n)), keyapi.CodeInvalid)
			wantCode(t, p.bring(n, put("a", 1, "x")), keyapi.CodeInvalid)
		}
	}
	p.must(change(leave, keyapi.MaxMove))
	p.wantAt(leaving, keyapi.MaxMove, theOther, 0)
}
