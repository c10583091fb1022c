package keyserver_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// F24: counter 1 makes an object and never overwrites one.
func TestFlaw24_CounterOneNeverOverwrites(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	for i := uint64(1); i <= 3; i++ {
		if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("x", i, fmt.Sprint("version ", i))}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, counter := range []uint64{1, 2, 3, 5, ^uint64(0)} {
		_, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("x", counter, "overwritten")}})
		problem := wantCode(t, err, keyapi.CodeConflict)
		if len(problem.Have) != 1 || problem.Have[0] != (keyapi.Expect{ID: objectID("x"), Counter: 3}) {
			t.Errorf("counter %d: the server says it has %+v", counter, problem.Have)
		}
	}
	_, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("x", 0, "overwritten")}})
	wantCode(t, err, keyapi.CodeInvalid)
	if counter, data := p.object(objectID("x")); counter != 3 || string(data) != "version 3" {
		t.Errorf("object is %d %q", counter, data)
	}
}

// Seed 0.4: who comes second is decided by compare-and-swap, not by any clock.
func TestSeedFlaw04_CompareAndSwapDecides(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("x", 1, "start")}}); err != nil {
		t.Fatal(err)
	}
	const writers, rounds = 8, 10
	var mu sync.Mutex
	wins := 0
	for round := range uint64(rounds) {
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				_, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("x", round+2, fmt.Sprint("writer ", i))}})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					wins++
				} else if problem, ok := err.(*keyapi.Problem); !ok || problem.Code != keyapi.CodeConflict {
					t.Errorf("loser: %v", err)
				}
			})
		}
		wg.Wait()
	}
	if wins != rounds {
		t.Errorf("%d winners in %d rounds", wins, rounds)
	}
	if counter, _ := p.object(objectID("x")); counter != rounds+1 {
		t.Errorf("counter is %d, want %d", counter, rounds+1)
	}
}

func TestTxIsAllOrNothing(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("a", 1, "a1"), put("b", 1, "b1"), put("c", 1, "c1")}}); err != nil {
		t.Fatal(err)
	}
	_, err := p.tx(keyapi.Tx{
		Put:    []keyapi.Object{put("a", 2, "a2"), put("new", 1, "n1")},
		Expect: []keyapi.Expect{{ID: objectID("b"), Counter: 7}, {ID: objectID("absent"), Counter: 0}},
		Delete: []keyapi.Expect{{ID: objectID("c"), Counter: 2}},
	})
	problem := wantCode(t, err, keyapi.CodeConflict)
	if len(problem.Have) != 2 {
		t.Errorf("conflict names %+v, want b and c", problem.Have)
	}
	index, err := w.c.ObjectIndex(t.Context(), p.token())
	if err != nil || len(index.Objects) != 3 {
		t.Fatalf("index: %+v, %v", index, err)
	}
	for _, o := range index.Objects {
		counter, data := p.object(o.ID)
		hash := sha256.Sum256(data)
		if counter != 1 || o.Counter != 1 || o.Size != len(data) || !bytes.Equal(o.Hash, hash[:]) {
			t.Errorf("object changed: %+v, %q", o, data)
		}
	}
	if _, err := p.tx(keyapi.Tx{Delete: []keyapi.Expect{{ID: objectID("c"), Counter: 1}}}); err != nil {
		t.Fatal(err)
	}
	l, err := w.c.Objects(t.Context(), p.token(), []keyapi.ObjectID{objectID("a"), objectID("c")})
	if err != nil || len(l.Objects) != 1 || len(l.Missing) != 1 || l.Missing[0] != objectID("c") {
		t.Errorf("after the deletion: %+v, %v", l, err)
	}
}

func TestUsersSeeTheirOwnObjectsOnly(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	if _, err := alice.tx(keyapi.Tx{Put: []keyapi.Object{put("x", 1, "alice's")}}); err != nil {
		t.Fatal(err)
	}
	if counter, _ := bob.object(objectID("x")); counter != 0 {
		t.Error("bob sees alice's object")
	}
	if _, err := bob.tx(keyapi.Tx{Put: []keyapi.Object{put("x", 1, "bob's")}}); err != nil {
		t.Fatal(err)
	}
	if _, data := alice.object(objectID("x")); string(data) != "alice's" {
		t.Errorf("alice reads %q", data)
	}
}

func TestTxSentAgainGivesTheSameResult(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	g := newGroup()
	tx := keyapi.Tx{Put: []keyapi.Object{put("x", 1, "data")}, Commit: g.create(alice.account, "first", bob.account)}
	first, err := alice.tx(tx)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		again, err := alice.tx(tx)
		if err != nil || again != first {
			t.Fatalf("sent again: %+v, %v; first: %+v", again, err, first)
		}
	}
	wantMessages(t, bob.inbox(0), "welcome of first")
	if _, err := bob.tx(tx); err == nil {
		t.Error("a result was given to another user")
	}
	tx.Nonce = []byte{1}
	_, err = alice.tx(tx)
	wantCode(t, err, keyapi.CodeConflict)
	tx.Nonce = nil
	w.clock.advance(25 * time.Hour)
	s, err := alice.refresh(alice.session.RefreshToken, alice.device)
	if err != nil {
		t.Fatal(err)
	}
	alice.session = s
	_, err = alice.tx(tx)
	wantCode(t, err, keyapi.CodeConflict)
}

func TestFailedTxIsNotRemembered(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	tx := keyapi.Tx{Put: []keyapi.Object{put("x", 2, "second")}}
	_, err := p.tx(tx)
	wantCode(t, err, keyapi.CodeConflict)
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("x", 1, "first")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.tx(tx); err != nil {
		t.Errorf("the identical transaction, now right: %v", err)
	}
}

func TestQuotasHoldAndAreGivenBack(t *testing.T) {
	l := keyservertest.Unlimited()
	l.Objects, l.ObjectBytes = 3, 1000
	w := newWorld(t, keyserver.Options{Limits: l})
	p := w.person("alice")
	big := string(make([]byte, 400))
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("a", 1, big), put("b", 1, big)}}); err != nil {
		t.Fatal(err)
	}
	_, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("c", 1, big)}})
	wantCode(t, err, keyapi.CodeQuota)
	if counter, _ := p.object(objectID("c")); counter != 0 {
		t.Error("object over quota was stored")
	}
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("c", 1, big)}, Delete: []keyapi.Expect{{ID: objectID("a"), Counter: 1}}}); err != nil {
		t.Errorf("room was made in the same transaction: %v", err)
	}
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("d", 1, "x")}}); err != nil {
		t.Errorf("third object: %v", err)
	}
	_, err = p.tx(keyapi.Tx{Put: []keyapi.Object{put("e", 1, "x")}})
	wantCode(t, err, keyapi.CodeQuota)
}

func TestFlaw29_ObjectsLargerThanOneAnswer(t *testing.T) {
	l := keyservertest.Unlimited()
	l.AnswerBytes = 64 << 10
	w := newWorld(t, keyserver.Options{Limits: l})
	p := w.person("alice")
	const size = 24 << 10
	var ids []keyapi.ObjectID
	for i := range 7 {
		name := fmt.Sprint("big ", i)
		ids = append(ids, objectID(name))
		o := keyapi.Object{ID: objectID(name), Counter: 1, Data: bytes.Repeat([]byte{byte(i + 1)}, size)}
		if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{o}}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := w.c.Objects(t.Context(), p.token(), append(ids, objectID("none")))
	if err != nil || len(got.Objects) != 7 || len(got.Missing) != 1 {
		t.Fatalf("%d objects, %d missing, %v", len(got.Objects), len(got.Missing), err)
	}
	for _, o := range got.Objects {
		if len(o.Data) != size {
			t.Errorf("object of %d octets", len(o.Data))
		}
	}
	_, err = p.tx(keyapi.Tx{Put: []keyapi.Object{{ID: objectID("huge"), Counter: 1, Data: make([]byte, keyapi.MaxObjectSize+1)}}})
	wantCode(t, err, keyapi.CodeInvalid)
}
