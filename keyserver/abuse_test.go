package keyserver_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
	"github.com/cloudmls/gateway/mls"
)

// Two octets of a body must not become a hundred in memory: long lists of
// nothing are refused before they are decoded.
func TestBodiesDoNotGrowInMemory(t *testing.T) {
	many := func(element string) string { return strings.TrimSuffix(strings.Repeat(element+",", 100_000), ",") }
	var names []string
	for i := range 1000 {
		names = append(names, fmt.Sprintf(`"n%d":0`, i))
	}
	for name, body := range map[string]string{
		"objects": `{"put":[` + many("{}") + `]}`, "recipients": `{"commit":{"recipients":[` + many("{}") + `]}}`,
		"numbers": `{"nonce":[` + many("0") + `]}`, "members": "{" + strings.Join(names, ",") + "}",
	} {
		var tx keyapi.Tx
		if err := keyserver.DecodeStrict([]byte(body), &tx); err == nil || !strings.Contains(err.Error(), "too many") {
			t.Errorf("%s: %v", name, err)
		}
	}
	var tx keyapi.Tx
	recipients := strings.TrimSuffix(strings.Repeat(`{"platform":"p","id":"x"},`, keyapi.MaxRecipients), ",")
	if err := keyserver.DecodeStrict([]byte(`{"commit":{"recipients":[`+recipients+`]}}`), &tx); err != nil || len(tx.Commit.Recipients) != keyapi.MaxRecipients {
		t.Errorf("as many recipients as a Commit may have: %v", err)
	}
}

// F21: who exists is told at the rate of look-ups, whichever route is asked.
func TestFlaw21_EveryLookUpIsCounted(t *testing.T) {
	for name, ask := range map[string]func(p *person, a keyapi.Account) error{
		"claim a KeyPackage": func(p *person, a keyapi.Account) error {
			return second(p.w.c.ClaimKeyPackage(p.w.t.Context(), p.token(), a))
		},
		"reachable": func(p *person, a keyapi.Account) error { return second(p.w.c.Reachable(p.w.t.Context(), p.token(), a)) },
		"claim an account": func(p *person, a keyapi.Account) error {
			return second(p.w.c.AddAccount(p.w.t.Context(), p.token(), keyapi.AccountRequest{Account: a, IdentityKey: public(p.identity)}))
		},
	} {
		l := keyservertest.Unlimited()
		l.LookUps = keyserver.Rate{Burst: 3, Every: time.Minute}
		w := newWorld(t, keyserver.Options{Limits: l, RequireProof: []string{"email"}})
		p := w.register("mallory")
		for i := range 3 {
			if problem, ok := ask(p, keyapi.Account{Platform: "email", ID: fmt.Sprint(i)}).(*keyapi.Problem); ok && problem.Code == keyapi.CodeRateLimited {
				t.Errorf("%s: question %d is refused", name, i)
			}
		}
		err := ask(p, keyapi.Account{Platform: "email", ID: "one more"})
		if problem, ok := err.(*keyapi.Problem); !ok || problem.Code != keyapi.CodeRateLimited {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// A dialog's handshakes reach its people only.
func TestFlaw21_DialogReachesItsPairOnly(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob, carol := w.person("alice"), w.person("bob"), w.person("carol")
	g := newDialog(alice.account, bob.account)
	c := g.create(alice.account, "hello", carol.account)
	_, err := alice.tx(keyapi.Tx{Commit: c})
	wantCode(t, err, keyapi.CodeForbidden)
	c = g.create(alice.account, "hello", bob.account)
	c.Recipients = append(c.Recipients, carol.account)
	_, err = alice.tx(keyapi.Tx{Commit: c})
	wantCode(t, err, keyapi.CodeForbidden)
	wantMessages(t, carol.inbox(0))
	alice.mustCommit(g, g.create(alice.account, "hello", bob.account))
}

// F21: number and octets of an inbox are bounded, from one sender and from all.
func TestFlaw21_InboxesAreBounded(t *testing.T) {
	octets := strings.Repeat("x", 100)
	for name, row := range map[string]struct {
		limit func(*keyserver.Limits)
		fits  int  // messages of 100 octets, from senders in turn
		own   bool // the senders are the inbox's own user
	}{
		"messages":           {func(l *keyserver.Limits) { l.Inbox = 4 }, 4, true},
		"octets":             {func(l *keyserver.Limits) { l.InboxBytes = 450 }, 4, true},
		"octets of a sender": {func(l *keyserver.Limits) { l.InboxBytesFrom = 150 }, 2, false},
	} {
		l := keyservertest.Unlimited()
		row.limit(&l)
		w := newWorld(t, keyserver.Options{Limits: l})
		bob, senders := w.person("bob"), []*person{w.person("alice"), w.person("mallory")}
		if row.own {
			senders = []*person{bob, bob}
		}
		for i := range row.fits + 1 {
			p, g := senders[i%2], newGroup()
			c := g.commit(p.account, octets, bob.account)
			c.Create = true
			_, err := p.tx(keyapi.Tx{Commit: c})
			if i < row.fits && err != nil {
				t.Errorf("%s: message %d: %v", name, i, err)
			}
			if problem, ok := err.(*keyapi.Problem); i == row.fits && (!ok || problem.Code != keyapi.CodeQuota) {
				t.Errorf("%s: one too many: %v", name, err)
			}
		}
	}
}

// F21: senders who work together do not fill an inbox either: each takes its
// part of the room that the others left, and the next one has the floor of
// messages and octets that each has.
func TestFlaw21_ColludingSendersLeaveRoom(t *testing.T) {
	l := keyservertest.Unlimited()
	l.Inbox, l.InboxFrom = 100, 20
	l.InboxBytes, l.InboxBytesFrom = 1<<20, 1<<19
	w := newWorld(t, keyserver.Options{Limits: l})
	bob := w.person("bob")
	send := func(p *person, octets int) error {
		c := newGroup().commit(p.account, strings.Repeat("x", octets), bob.account)
		c.Create = true
		_, err := p.tx(keyapi.Tx{Commit: c})
		return err
	}
	for i := range 5 { // as many as could fill it, were it for the limits for one alone
		p := w.person(fmt.Sprint("mallory", i))
		for _, octets := range []int{100 << 10, 30 << 10, 1000, 1} {
			for {
				if err := send(p, octets); err != nil {
					wantCode(t, err, keyapi.CodeQuota)
					break
				}
			}
		}
	}
	alice := w.person("alice")
	for i := range 4 {
		if err := send(alice, 16<<10); err != nil {
			t.Errorf("message %d of the next sender: %v", i, err)
		}
	}
	if err := send(bob, 100<<10); err != nil {
		t.Errorf("the inbox's own user: %v", err)
	}
}

// KeyPackages that have ended go when new ones come: the pool's limit bounds
// what an account takes up, however short its KeyPackages live.
func TestEndedKeyPackagesMakeRoom(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	const rounds, each = 6, 80
	for range rounds {
		var pool [][]byte
		for range each {
			pool = append(pool, p.keyPackage(func(o *mls.KeyPackageOptions) {
				o.Lifetime.NotAfter = uint64(w.clock.now().Add(time.Second).Unix())
			}))
		}
		if _, err := p.upload(keyapi.KeyPackageUpload{KeyPackages: pool}); err != nil {
			t.Fatal(err)
		}
		w.clock.advance(2 * time.Second)
	}
	w.Close()
	for bucket, n := range count(t, w.Path, "pool", "references") {
		if n > each {
			t.Errorf("%s holds %d, of which at most %d are new", bucket, n, each)
		}
	}
}

func count(t *testing.T, path string, buckets ...string) map[string]int {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n := map[string]int{}
	err = db.View(func(tx *bolt.Tx) error {
		for _, b := range buckets {
			n[b] = tx.Bucket([]byte(b)).Stats().KeyN
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Each accepted transaction is remembered for a day, so even empty ones are
// counted.
func TestWritesAreThrottledPerUser(t *testing.T) {
	l := keyservertest.Unlimited()
	l.Writes = keyserver.Rate{Burst: 3, Every: time.Minute}
	w := newWorld(t, keyserver.Options{Limits: l})
	alice, bob := w.person("alice"), w.person("bob")
	for i := range 3 {
		if _, err := alice.tx(keyapi.Tx{Nonce: []byte{byte(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := alice.tx(keyapi.Tx{Nonce: []byte{9}})
	wantCode(t, err, keyapi.CodeRateLimited)
	_, err = alice.upload(keyapi.KeyPackageUpload{})
	wantCode(t, err, keyapi.CodeRateLimited)
	if _, err := bob.tx(keyapi.Tx{}); err != nil {
		t.Errorf("another user: %v", err)
	}
}

// stalled is a client that does not read: its answers stay in memory until it
// is released.
type stalled struct {
	httptest.ResponseRecorder
	begun   chan<- struct{}
	release <-chan struct{}
	stopped bool
}

func (s *stalled) Write(b []byte) (int, error) {
	if len(b) > 64<<10 && !s.stopped {
		s.stopped = true
		s.begun <- struct{}{}
		<-s.release
	}
	return len(b), nil
}

func TestLargeAnswersAreFewAtATime(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p, other := w.person("alice"), w.person("bob")
	body := fmt.Sprintf(`{"ids":["%x"]}`, objectID("big"))
	for _, who := range []*person{p, other} {
		for i := range uint64(2) {
			o := keyapi.Object{ID: objectID([]string{"big", "small"}[i]), Counter: 1, Data: make([]byte, 16<<20>>(20*i))}
			if _, err := who.tx(keyapi.Tx{Put: []keyapi.Object{o}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	const readers = 12
	begun, release, done := make(chan struct{}, readers), make(chan struct{}), make(chan int, readers)
	for range readers {
		go func() {
			r := httptest.NewRequest("POST", "/v1/objects", strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+p.token())
			s := &stalled{begun: begun, release: release}
			w.Handler.ServeHTTP(s, r)
			done <- s.Code
		}()
	}
	refused, waiting := 0, 0
	for refused+waiting < readers {
		select {
		case <-begun:
			waiting++
		case code := <-done:
			if code != http.StatusTooManyRequests {
				t.Errorf("refused with %d", code)
			}
			refused++
		}
	}
	if waiting != 8 {
		t.Errorf("%d answers of 16 MiB in memory for one user, want 8", waiting)
	}
	if counter, _ := other.object(objectID("big")); counter != 1 {
		t.Error("another user cannot read")
	}
	close(release)
	for range waiting {
		<-done
	}
	if counter, _ := p.object(objectID("big")); counter != 1 {
		t.Error("nothing can be read after it")
	}
}

// Other keys or another origin would refuse every password: the server says so
// at its start instead.
func TestKeysAndOriginBelongToTheDatabase(t *testing.T) {
	open := func(path, origin string, pepper []byte) (*keyserver.Server, *boltstore.Store, error) {
		store, err := boltstore.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = store.Close() })
		s, err := keyserver.New(keyserver.Options{Store: store, Origin: origin, TokenKey: newKey(), Pepper: pepper})
		return s, store, err
	}
	empty := filepath.Join(t.TempDir(), "empty.db")
	for range 2 { // nobody registered: nothing is bound yet
		_, store, err := open(empty, keyservertest.Origin, random(32))
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	w := newWorld(t, keyserver.Options{})
	w.register("alice")
	w.Close()
	for _, row := range []struct {
		name, origin string
		pepper       []byte
		ok           bool
	}{
		{"other keys", keyservertest.Origin, random(32), false}, {"other origin", "https://other.example", keyservertest.Pepper(), false},
		{"the same", keyservertest.Origin, keyservertest.Pepper(), true},
	} {
		_, store, err := open(w.Path, row.origin, row.pepper)
		if (err == nil) != row.ok {
			t.Errorf("%s: %v", row.name, err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// Who has more than a quota that was lowered may still make room.
func TestLoweredQuotaLetsStateShrink(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("a", 1, "12345"), put("head", 1, "1")}}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	l := keyservertest.Unlimited()
	l.ObjectBytes = 2
	again := keyservertest.NewServer(t, keyservertest.Options{Path: w.Path, Server: keyserver.Options{Now: w.clock.now, Limits: l}})
	p.w.c = again.Client()
	_, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("head", 2, "12")}})
	wantCode(t, err, keyapi.CodeQuota)
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("head", 2, "1"), put("a", 2, "1234")}}); err != nil {
		t.Errorf("smaller than before: %v", err)
	}
}

// F21: acknowledging and ending sessions are counted like everything that writes.
func TestFlaw21_AllWritesAreCounted(t *testing.T) {
	l := keyservertest.Unlimited()
	l.Writes = keyserver.Rate{Burst: 2, Every: time.Hour}
	w := newWorld(t, keyserver.Options{Limits: l})
	for name, write := range map[string]func(*person) error{
		"ack": func(p *person) error { return w.c.Ack(t.Context(), p.token(), p.account, 0) },
		"end": func(p *person) error { return w.c.EndSession(t.Context(), p.token(), random(16)) },
	} {
		p := w.person(name)
		for i := range 3 {
			err := write(p)
			if i < 2 && err != nil {
				t.Errorf("%s %d: %v", name, i, err)
			}
			if i == 2 {
				wantCode(t, err, keyapi.CodeRateLimited)
			}
		}
	}
}

// What a transaction only expects makes no room, and what it deletes does.
func TestQuotaCountsWhatChanges(t *testing.T) {
	l := keyservertest.Unlimited()
	l.ObjectBytes, l.Objects = 10, 2
	w := newWorld(t, keyserver.Options{Limits: l})
	p := w.person("alice")
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("a", 1, "1234567"), put("head", 1, "1")}}); err != nil {
		t.Fatal(err)
	}
	a := keyapi.Expect{ID: objectID("a"), Counter: 1}
	for name, row := range map[string]struct {
		tx keyapi.Tx
		ok bool
	}{
		"more octets, expecting":  {keyapi.Tx{Expect: []keyapi.Expect{a}, Put: []keyapi.Object{put("head", 2, "12345")}}, false},
		"more objects, expecting": {keyapi.Tx{Expect: []keyapi.Expect{a}, Put: []keyapi.Object{put("b", 1, "1")}}, false},
		"one more, one smaller":   {keyapi.Tx{Put: []keyapi.Object{put("a", 2, "1"), put("b", 1, "1")}}, false},
		"one in place of another": {keyapi.Tx{Delete: []keyapi.Expect{a}, Put: []keyapi.Object{put("b", 1, "123456789")}}, true},
	} {
		_, err := p.tx(row.tx)
		if row.ok && err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !row.ok {
			wantCode(t, err, keyapi.CodeQuota)
		}
		if row.ok { // and back
			b := keyapi.Expect{ID: objectID("b"), Counter: 1}
			if _, err := p.tx(keyapi.Tx{Delete: []keyapi.Expect{b}, Put: []keyapi.Object{put("a", 1, "1234567")}}); err != nil {
				t.Fatal(err)
			}
		}
	}
}
