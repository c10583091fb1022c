package keyserver_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// note puts what a server wrote when moves had no numbers.
func (p *lone) note(value string) {
	p.w.t.Helper()
	u := p.session.UserID
	err := p.store.Update(p.w.t.Context(), func(w keyserver.Writer) error {
		return w.PutNote(&keyserver.Note{Kind: keyserver.NoteMove, Owner: u, Value: []byte(value)})
	})
	if err != nil {
		p.w.t.Fatal(err)
	}
}

// Objects whose place was noted without numbers are in no dead end: every number
// is later than none.
func TestMoveNumbersOfNotesWithoutThem(t *testing.T) {
	withObject := func() *lone {
		p := newLone(t, keyserver.Options{})
		p.write(put("a", 1, "x"))
		return p
	}
	p := withObject()
	p.note(`{"place":"leaving","to":"https://other.example"}`)
	p.wantAt(leaving, 0, theOther, 1)
	hash := p.where().IndexHash
	wantCode(t, p.do(change(leave, 1)), keyapi.CodeConflict)
	wantCode(t, p.do(keyapi.StoreMove{Change: goes, Move: 1, IndexHash: hash}), keyapi.CodeConflict)
	p.must(change(stay, 1), change(leave, 2))
	p.wantAt(leaving, 2, theOther, 1)

	p = withObject()
	p.note(`{"place":"gone","to":"https://other.example"}`) // and the deletion was cut off
	wantCode(t, p.do(change(goes, 1)), keyapi.CodeConflict)
	p.must(change(arrive, 1), change(abandon, 1))
	p.wantAt(gone, 1, theOther, 0)

	p = withObject()
	p.note(`{"place":"gone"}`)
	p.must(change(abandon, 1))
	p.wantAt(here, 0, "", 0)
	wantCode(t, p.do(change(arrive, 1)), keyapi.CodeConflict)
	p.open(2)

	p = withObject()
	p.note(`{"place":"arriving","to":"https://other.example"}`)
	wantCode(t, p.do(keyapi.StoreMove{Change: opens, Move: 1, IndexHash: hash}), keyapi.CodeConflict)
	p.must(change(arrive, 1))
	p.wantAt(arriving, 1, theOther, 0)

	p = withObject()
	p.note(`{"place":"arriving"}`)
	p.must(change(abandon, 1))
	p.wantAt(here, 0, "", 0)
}

// An export has the numbers as well: they are kept of objects that are here.
func TestMoveNumbersAreExported(t *testing.T) {
	p := newLone(t, keyserver.Options{})
	p.write(put("a", 1, "x"))
	p.must(change(leave, 7), change(stay, 7))
	var out bytes.Buffer
	if err := keyserver.ExportUser(t.Context(), p.store, "alice", &out); err != nil {
		t.Fatal(err)
	}
	if want := `{"type":"place","data":{"place":"here","last":7,"stayed":7}}`; !strings.Contains(out.String(), want) {
		t.Errorf("no %s in %s", want, out.String())
	}
}

// Where the store of a server with both roles is not in use, its password changes
// by itself: nothing here is sealed to it. Everywhere else what is sealed to the
// password changes with it.
func TestMoveNumbersAndPasswords(t *testing.T) {
	for name, row := range map[string]struct {
		is      func(p *lone)
		refused string
	}{
		"none": {func(*lone) {}, ""},
		"in use": {func(p *lone) {
			p.write(put("a", 1, "x"))
		}, keyapi.CodeInvalid},
		"in use after a move that was given up": {func(p *lone) {
			p.write(put("a", 1, "x"))
			p.must(change(leave, 1), change(stay, 1))
		}, keyapi.CodeInvalid},
		"leaving": {func(p *lone) {
			p.write(put("a", 1, "x"))
			p.must(change(leave, 1))
		}, keyapi.CodeInvalid},
		"leaving, and none": {func(p *lone) {
			p.must(change(leave, 1))
		}, keyapi.CodeInvalid},
		"gone": {func(p *lone) {
			p.must(change(leave, 1), keyapi.StoreMove{Change: goes, Move: 1, IndexHash: keyapi.IndexHash(nil)})
		}, ""},
		"arriving": {func(p *lone) {
			p.must(change(arrive, 1))
			if err := p.bring(1, put("a", 1, "x")); err != nil {
				t.Fatal(err)
			}
		}, ""},
		"opened": {func(p *lone) { p.open(1) }, ""},
		"opened and in use": {func(p *lone) {
			p.open(1)
			p.must(change(uses, 1))
		}, keyapi.CodeInvalid},
	} {
		p := newLone(t, keyserver.Options{})
		row.is(p)
		before, fresh := p.where(), random(32)
		try := func(tx keyapi.Tx) error {
			r := p.change(p.auth, fresh, keyapi.Object{})
			r.Tx = tx
			_, err := p.w.c.ChangePassword(t.Context(), p.token(), r)
			return err
		}
		wantCode(t, try(keyapi.Tx{Expect: []keyapi.Expect{{ID: objectID("b"), Counter: 0}}}), keyapi.CodeInvalid)
		err := try(keyapi.Tx{})
		if row.refused != "" {
			wantCode(t, err, row.refused)
			fresh = p.auth
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := p.login(newKey(), fresh); err != nil {
			t.Errorf("%s: the password: %v", name, err)
		}
		if at := p.where(); at.Place != before.Place || at.Move != before.Move || at.Objects != before.Objects {
			t.Errorf("%s: the place has changed from %+v to %+v", name, before, at)
		}
	}
}

// race does two things at the same time.
func race(f, g func() error) (ferr, gerr error) {
	var w sync.WaitGroup
	w.Go(func() { ferr = f() })
	w.Go(func() { gerr = g() })
	w.Wait()
	return ferr, gerr
}

// Of two steps that exclude each other one takes effect, whichever is first.
func TestMoveNumbersRaces(t *testing.T) {
	for range 12 {
		p := newLone(t, keyserver.Options{})
		p.write(put("a", 1, "x"))
		hash := p.where().IndexHash
		step := func(s keyapi.StoreMove) func() error { return func() error { return p.do(s) } }
		one := func(what string, a, b error) (first bool) {
			if (a == nil) == (b == nil) {
				t.Fatalf("%s: %v and %v", what, a, b)
			}
			return a == nil
		}

		p.must(change(leave, 1))
		a, b := race(step(keyapi.StoreMove{Change: goes, Move: 1, IndexHash: hash}), step(change(stay, 1)))
		if one("go and stay", a, b) {
			p.wantAt(gone, 1, theOther, 0)
		} else {
			p.wantAt(here, 0, "", 1)
			p.must(change(leave, 2), keyapi.StoreMove{Change: goes, Move: 2, IndexHash: hash})
		}

		p.must(change(arrive, 3))
		if err := p.bring(3, put("a", 1, "x")); err != nil {
			t.Fatal(err)
		}
		a, b = race(step(keyapi.StoreMove{Change: opens, Move: 3, IndexHash: hash}), step(change(arrive, 4)))
		if one("open and a later move", a, b) {
			p.wantAt(here, 3, "", 1)
			p.must(change(abandon, 3), change(arrive, 4))
		} else {
			p.wantAt(arriving, 4, theOther, 0)
		}

		a, b = race(func() error { return p.bring(4, put("a", 1, "x")) }, step(change(abandon, 4)))
		if b != nil {
			t.Fatalf("abandon: %v, import: %v", b, a)
		}
		p.wantAt(gone, 4, theOther, 0)

		p.open(5)
		a, b = race(step(change(uses, 5)), step(change(abandon, 5)))
		if one("use and abandon", a, b) {
			p.wantAt(here, 0, "", 1)
		} else {
			p.wantAt(gone, 5, theOther, 0)
		}
	}
}

// Two devices that let different moves arrive: the later one has its way.
func TestMoveNumbersRaceToArrive(t *testing.T) {
	for range 12 {
		p := newLone(t, keyserver.Options{})
		p.must(change(arrive, 1))
		if err := p.bring(1, put("a", 1, "x")); err != nil {
			t.Fatal(err)
		}
		a, b := race(func() error { return p.do(change(arrive, 2)) }, func() error { return p.do(change(arrive, 3)) })
		if b != nil {
			t.Fatalf("the later one: %v, the earlier one: %v", b, a)
		}
		p.wantAt(arriving, 3, "", 0)
	}
}
