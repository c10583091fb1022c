package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestKeyIsConfirmedForTheReader: the key server's word on a sender's key that did not
// reach the state, because a write failed or is still under way, keeps nobody who
// reads from asking for it: what is said of a message then stays.
func TestKeyIsConfirmedForTheReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice, bob := w.user("alice"), w.user("bob")
	id := alice.ensureGroup(newID(t), bob).ID
	message := alice.encrypt(id, "hello")
	asked := false
	w.wire.set(func(e *exchange) bool {
		asked = asked || e.is("GET", "/v1/reachable/")
		if !asked || !e.is("POST", "/v1/tx") || !bytes.Contains(e.sent, []byte(`"put"`)) {
			return false
		}
		e.status = 500
		return true
	}, nil)
	if _, err := bob.Sync(t.Context(), bob.self); err == nil || !asked {
		t.Fatalf("the test's write did not fail: asked %v, %v", asked, err)
	}
	w.wire.set(nil, nil)
	bob.reads(message, "hello", alice)
}

// TestWhatAPinHears: what becomes of a pin by the key server's word.
func TestWhatAPinHears(t *testing.T) {
	t.Parallel()
	key := func(s string) []byte { return []byte(s) }
	lead := func(from string) []keyapi.Rotation {
		return []keyapi.Rotation{{Previous: key(from), Next: key("else")}}
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		what    string
		pin     pinEntry
		named   string
		chain   []keyapi.Rotation
		rotated bool
		key     string
		open    bool // it is unconfirmed afterwards
		changed bool // the pin is, at all
	}{
		{"the key that was shown", pinEntry{Unconfirmed: true}, "first", nil, false, "first", false, true},
		{"another than was shown", pinEntry{Unconfirmed: true}, "right", nil, false, "right", false, true},
		{"the pinned one", pinEntry{Verified: 7, Changed: key("other")}, "first", nil, false, "first", false, false},
		{"the pinned one, with a chain to it", pinEntry{Verified: 7}, "first", lead("zeroth"), false, "first", false, false},
		{"the one that was signed", pinEntry{Next: key("second")}, "second", nil, true, "second", false, true},
		{"one at the end of a chain", pinEntry{Next: key("bogus")}, "second", lead("first"), true, "second", false, true},
		{"one at the end of a chain, unasked", pinEntry{}, "second", lead("first"), true, "second", false, true},
		{"one at the end of a chain, of a key that was shown", pinEntry{Unconfirmed: true}, "second", lead("first"), true, "second", false, true},
		{"another than the pinned one", pinEntry{Verified: 7}, "thief's", nil, false, "first", false, false},
		{"another, with a chain from elsewhere", pinEntry{Next: key("second")}, "thief's", lead("elsewhere"), false, "first", false, false},
	} {
		p := tt.pin
		p.Key = key("first")
		before := p
		rotated := p.heard(keyapi.Reachability{IdentityKey: key(tt.named), Rotations: tt.chain}, now)
		if rotated != tt.rotated || string(p.Key) != tt.key || p.Unconfirmed != tt.open {
			t.Errorf("%s: rotated %v, %+v", tt.what, rotated, p)
		}
		same := p.Verified == before.Verified && bytes.Equal(p.Changed, before.Changed) && bytes.Equal(p.Next, before.Next) &&
			bytes.Equal(p.Key, before.Key) && p.Unconfirmed == before.Unconfirmed
		if same == tt.changed {
			t.Errorf("%s: before %+v, after %+v", tt.what, before, p)
		}
	}
}

// TestPinsInDoubt: which pins the key server is asked about, and for whose sake.
func TestPinsInDoubt(t *testing.T) {
	t.Parallel()
	former := []formerKey{{Key: []byte("former")}}
	r := &contactsRecord{Pins: []pinEntry{
		{Platform: PlatformEmail, ID: "settled", Key: []byte("first"), Former: former},
		{Platform: PlatformEmail, ID: "shown", Key: []byte("first"), Unconfirmed: true},
		{Platform: PlatformEmail, ID: "rotating", Key: []byte("first"), Next: []byte("second"), Former: former},
		{Platform: PlatformEmail, ID: "both", Key: []byte("first"), Next: []byte("second"), Unconfirmed: true},
	}}
	ids := func(list []*pinEntry) (ids []string) {
		for _, p := range list {
			ids = append(ids, p.ID)
		}
		return ids
	}
	account := func(id string) Account { return Account{Platform: PlatformEmail, ID: id} }
	if got := ids(r.toConfirm(nil)); !slices.Equal(got, []string{"shown", "rotating", "both"}) {
		t.Errorf("in doubt: %q", got)
	}
	if got := ids(r.toConfirm([]Account{account("settled"), account("both"), account("unknown")})); !slices.Equal(got, []string{"both"}) {
		t.Errorf("in doubt of those wanted: %q", got)
	}
	if got := r.toConfirm([]Account{}); len(got) != 0 {
		t.Errorf("in doubt of nobody: %q", ids(got))
	}
	for i, want := range []struct {
		rotating bool
		doubtful string
		doubts   map[string]bool // whether a message under a key is a question
	}{
		{false, "first", map[string]bool{"first": false, "second": false, "third": false, "former": false}},
		{false, "first", map[string]bool{"first": true, "second": true}},
		{true, "second", map[string]bool{"first": false, "second": true, "third": true, "former": false}},
		{false, "second", map[string]bool{"first": true, "second": true}},
	} {
		p := &r.Pins[i]
		if p.rotating() != want.rotating || string(p.doubtful()) != want.doubtful {
			t.Errorf("%s: rotating %v, doubtful %q", p.ID, p.rotating(), p.doubtful())
		}
		for key, doubts := range want.doubts {
			if p.doubts([]byte(key)) != doubts {
				t.Errorf("%s: a message under %q: %v", p.ID, key, !doubts)
			}
		}
	}
}

// TestAnswersOfTheKeyServer: what an answer does to those who wait for one, and to the
// questions that are left.
func TestAnswersOfTheKeyServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.user("bob")
	now := w.clock.now()
	pins := func() (list []*pinEntry) {
		for _, id := range []string{"a", "b", "c"} {
			list = append(list, &pinEntry{Platform: PlatformEmail, ID: id + "@example.org", Key: []byte(id), Unconfirmed: true})
		}
		return list
	}
	var spent *budget
	ask := func(ctx context.Context) (questions, noted, left int, err error) {
		bob.asked.keys, spent = nil, (&budget{}).of(10)
		w.wire.reset()
		err = bob.askPins(ctx, bob.self, pins(), func(*pinEntry) *budget { return spent })
		for _, e := range w.wire.requests() {
			if e.is("GET", "/v1/reachable/") {
				questions++
			}
		}
		for spent.take(now) {
			left++
		}
		return questions, len(bob.asked.keys), left, err
	}
	problem := func(status int, code string) func(e *exchange) {
		return func(e *exchange) {
			e.status, e.header = status, "application/problem+json"
			e.answered = encodeJSON(t, keyapi.Problem{Status: status, Code: code})
		}
	}
	answer := func(r keyapi.Reachability) func(e *exchange) {
		return func(e *exchange) { e.status, e.header, e.answered = 200, "application/json", encodeJSON(t, r) }
	}
	bob.mustSync() // a fresh token
	for _, tt := range []struct {
		what                   string
		fault                  func(e *exchange)
		questions, noted, left int
	}{
		{"no such account", nil, 3, 3, 7},
		{"not found", problem(http.StatusNotFound, keyapi.CodeNotFound), 3, 3, 7},
		{"too many questions", problem(http.StatusTooManyRequests, keyapi.CodeRateLimited), 1, 0, 9},
		{"another account's answer", answer(keyapi.Reachability{Account: bob.self, HasAccount: true, IdentityKey: bob.ownKey()}), 1, 0, 10},
	} {
		bob.asked.syncing, bob.asked.reading = budget{}, budget{}
		if tt.fault != nil {
			w.wire.fail(func(e *exchange) bool { return e.is("GET", "/v1/reachable/") }, tt.fault)
		} else {
			w.wire.set(nil, nil)
		}
		questions, noted, left, err := ask(t.Context())
		if err != nil || questions != tt.questions || noted != tt.noted || left != tt.left {
			t.Errorf("%s: %d questions, %d noted, %d left, %v", tt.what, questions, noted, left, err)
		}
		if n := w.wire.count("POST", "/v1/tx"); n != 0 {
			t.Errorf("%s: %d writes of what nobody said", tt.what, n)
		}
		limited := tt.what == "too many questions"
		if bob.asked.syncing.take(w.clock.now()) == limited || bob.asked.reading.take(w.clock.now()) == limited {
			t.Errorf("%s: whether anything is asked about others in this hour is wrong", tt.what)
		}
	}
	for what, fault := range map[string]func(e *exchange){"a page": faults["500 page"], "a problem": problem(500, keyapi.CodeInternal)} {
		w.wire.fail(func(e *exchange) bool { return e.is("GET", "/v1/reachable/") }, fault)
		if questions, noted, left, err := ask(t.Context()); err != nil || questions == 0 || noted != 0 || left != 10 {
			t.Errorf("a broken key server with %s: %d questions, %d noted, %d left, %v", what, questions, noted, left, err)
		}
	}
	w.wire.set(nil, nil)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := ask(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	none := (&budget{}).of(1)
	none.spend(now)
	w.wire.reset()
	err := bob.askPins(t.Context(), bob.self, pins(), func(p *pinEntry) *budget {
		if p.ID == "a@example.org" {
			return none
		}
		return nil
	})
	if n := w.wire.count("GET", "/v1/reachable/"); err != nil || n != 2 {
		t.Errorf("where one has no questions left: %d, %v", n, err)
	}
}

// saying is a Server whose answers about accounts nobody has checked.
type saying struct {
	Server
	answer keyapi.Reachability
	err    error
}

func (s saying) Reachable(context.Context, string, Account) (keyapi.Reachability, error) {
	return s.answer, s.err
}

// TestAnswersThatDoNotFit the question are none, and rotations that lead nowhere show
// nothing, whichever client of the key server passed them on.
func TestAnswersThatDoNotFit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bob := w.user("bob")
	alice, key := account("alice"), bob.ownKey()
	ask := func(answer keyapi.Reachability, err error) (keyapi.Reachability, error) {
		bob.o.Server = saying{w.ks.Client(), answer, err}
		return bob.askAccount(t.Context(), alice)
	}
	for what, answer := range map[string]keyapi.Reachability{
		"another account":       {Account: bob.self, HasAccount: true, IdentityKey: key},
		"a key and no account":  {Account: alice, IdentityKey: key},
		"an account and no key": {Account: alice, HasAccount: true},
		"half a key":            {Account: alice, HasAccount: true, IdentityKey: key[:16]},
	} {
		if r, err := ask(answer, nil); err == nil || r.HasAccount || r.IdentityKey != nil {
			t.Errorf("%s: %+v, %v", what, r, err)
		}
	}
	right := keyapi.Reachability{Account: alice, HasAccount: true, IdentityKey: key}
	if r, err := ask(right, errDead); !errors.Is(err, errDead) || r.HasAccount {
		t.Errorf("no answer: %+v, %v", r, err)
	}
	right.Rotations = bob.bogusRotation().chain // of another account, to another key
	if r, err := ask(right, nil); err != nil || len(r.Rotations) != 0 || !bytes.Equal(r.IdentityKey, key) {
		t.Errorf("rotations that lead elsewhere: %+v, %v", r, err)
	}
}
