package keyserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// node is a server at an address of its own.
type node struct {
	*keyserver.Server
	url string
	c   *keyclient.Client
}

// newNodes starts servers on one store, as several processes would be.
func newNodes(t *testing.T, n int, o keyserver.Options) (nodes []*node, clock *clock, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "keyserver.db")
	store, err := boltstore.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	clock = newClock()
	for range n {
		o := o
		o.Store, o.Now = store, clock.now
		nodes = append(nodes, newNode(t, o))
	}
	return nodes, clock, file
}

func newNode(t *testing.T, o keyserver.Options) *node {
	t.Helper()
	if o.Origin == "" {
		o.Origin = keyservertest.Origin
	}
	if o.Pepper == nil {
		o.Pepper = keyservertest.Pepper()
	}
	if o.Limits == (keyserver.Limits{}) {
		o.Limits = keyservertest.Unlimited()
	}
	s, err := keyserver.New(o)
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s)
	t.Cleanup(func() { _ = s.Close(); h.Close() })
	c, err := keyclient.New(keyclient.Options{URL: h.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &node{s, h.URL, c}
}

// at makes a world of a node, for the helpers of other tests.
func (n *node) at(t *testing.T, clock *clock) *world {
	return &world{Server: &keyservertest.Server{URL: n.url, Origin: n.Origin, Handler: n.Server}, t: t, clock: clock, c: n.c}
}

// on is the same person at another node.
func (p *person) on(w *world) *person {
	q := *p
	q.w = w
	return &q
}

func keyIDOf(t *testing.T, token string) string {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Header["kid"].(string)
}

func published(t *testing.T, c *keyclient.Client) map[string]bool {
	t.Helper()
	keys, err := c.TokenKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, k := range keys.Keys {
		if _, err := k.Public(); err != nil {
			t.Error(err)
		}
		ids[k.KeyID] = true
	}
	return ids
}

// The keys of access tokens rotate: the next is published a day before it
// signs, the last is accepted for a day after it has signed, and no more.
func TestThreat10_TokenKeysRotate(t *testing.T) {
	nodes, clock, file := newNodes(t, 2, keyserver.Options{TokenLifetime: 40 * time.Hour})
	a, b := nodes[0], nodes[1]
	p := a.at(t, clock).register("alice")
	first := keyIDOf(t, p.token())
	if _, err := b.c.Sessions(t.Context(), p.token()); err != nil {
		t.Fatalf("a token of the other process: %v", err)
	}
	clock.advance(29*24*time.Hour + time.Minute)
	next := published(t, b.c)
	if len(next) != 2 || !next[first] {
		t.Fatalf("a day before: %v are published, with %s", next, first)
	}
	s, err := p.refresh(p.session.RefreshToken, p.device)
	if err != nil {
		t.Fatal(err)
	}
	if keyIDOf(t, s.AccessToken) != first {
		t.Error("the next key signs before its time")
	}
	clock.advance(24 * time.Hour)
	s2, err := p.on(b.at(t, clock)).refresh(s.RefreshToken, p.device)
	if err != nil {
		t.Fatal(err)
	}
	if second := keyIDOf(t, s2.AccessToken); second == first || !next[second] {
		t.Errorf("after 30 days %s signs", second)
	}
	for i, n := range nodes {
		if _, err := n.c.Sessions(t.Context(), s.AccessToken); err != nil {
			t.Errorf("node %d: a token of the key before, within its overlap: %v", i, err)
		}
	}
	clock.advance(24 * time.Hour)
	old := signedWith(t, s2.AccessToken, first)
	for i, n := range nodes {
		if ids := published(t, n.c); ids[first] || len(ids) != 1 {
			t.Errorf("node %d publishes %v after the end of %s", i, ids, first)
		}
		_, err := n.c.Sessions(t.Context(), old)
		wantCode(t, err, keyapi.CodeUnauthorized)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte(`"seed"`)) {
		t.Error("the store holds the seed of a token key in clear")
	}
}

// signedWith is a token whose header names another key.
func signedWith(t *testing.T, token, kid string) string {
	t.Helper()
	parts := strings.Split(token, ".")
	parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	parsed.Header["kid"] = kid
	s, err := parsed.SigningString()
	if err != nil {
		t.Fatal(err)
	}
	return s + "." + parts[2]
}

// Processes that begin at once make one key, not one each.
func TestThreat10_ProcessesShareTheirTokenKeys(t *testing.T) {
	nodes, clock, _ := newNodes(t, 3, keyserver.Options{})
	var wg sync.WaitGroup
	tokens := make([]string, len(nodes))
	for i, n := range nodes {
		w := n.at(t, clock)
		wg.Go(func() { tokens[i] = w.register([]string{"a", "b", "c"}[i]).token() })
	}
	wg.Wait()
	for i, n := range nodes {
		for j := range tokens {
			if keyIDOf(t, tokens[j]) != keyIDOf(t, tokens[0]) {
				t.Errorf("process %d signs with a key of its own", j)
			}
			if _, err := n.c.Sessions(t.Context(), tokens[j]); err != nil {
				t.Errorf("process %d refuses a token of %d: %v", i, j, err)
			}
		}
	}
}

// Tokens with made-up key ids do not make the server look into its store each
// time.
func TestThreat10_UnknownKeyIDsAreLookedForOnceASecond(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keyserver.db")
	store, err := boltstore.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	counted := &countedStore{Store: store}
	clock := newClock()
	n := newNode(t, keyserver.Options{Store: counted, Now: clock.now})
	p := n.at(t, clock).register("alice")
	bad := signedWith(t, p.token(), "AAAAAAAAAAAAAAAA")
	clock.advance(2 * time.Second)
	before := counted.views
	for range 50 {
		_, err := n.c.Sessions(t.Context(), bad)
		wantCode(t, err, keyapi.CodeUnauthorized)
	}
	if looked := counted.views - before; looked != 1 {
		t.Errorf("the store was asked %d times", looked)
	}
}

type countedStore struct {
	keyserver.Store
	views int // requests come one after the other
}

func (s *countedStore) View(ctx context.Context, fn func(keyserver.Reader) error) error {
	s.views++
	return s.Store.View(ctx, fn)
}

// Logging out, being logged out by another device, and the reuse of a refresh
// token count at once in every process.
func TestThreat13_RevocationCountsOnEveryNode(t *testing.T) {
	nodes, clock, _ := newNodes(t, 3, keyserver.Options{})
	a := nodes[0].at(t, clock)
	for name, end := range map[string]func(p *person, other *world){
		"logout": func(p *person, other *world) {
			if err := other.c.Logout(t.Context(), p.token()); err != nil {
				t.Fatal(err)
			}
		},
		"ended by another device": func(p *person, other *world) {
			s, err := p.on(other).login(newKey(), p.auth)
			if err != nil {
				t.Fatal(err)
			}
			if err := other.c.EndSession(t.Context(), s.AccessToken, p.session.SessionID); err != nil {
				t.Fatal(err)
			}
		},
		"reuse of its refresh token": func(p *person, other *world) {
			first := p.session.RefreshToken
			if _, err := p.refresh(first, p.device); err != nil {
				t.Fatal(err)
			}
			clock.advance(31 * time.Second)
			_, err := p.on(other).refresh(first, p.device)
			wantCode(t, err, keyapi.CodeUnauthorized)
		},
	} {
		p := a.register("alice-" + name[:4])
		for _, n := range nodes {
			if _, err := n.c.Sessions(t.Context(), p.token()); err != nil {
				t.Fatalf("%s: before: %v", name, err)
			}
		}
		end(p, nodes[1].at(t, clock))
		for i, n := range nodes {
			if _, err := n.c.Sessions(t.Context(), p.token()); !keyclient.IsCode(err, keyapi.CodeUnauthorized) {
				t.Errorf("%s: node %d: %v", name, i, err)
			}
		}
	}
}

// logged is a logger and what it wrote.
func logged() (*slog.Logger, *bytes.Buffer) {
	var b bytes.Buffer
	return slog.New(slog.NewJSONHandler(&lockedWriter{w: &b}, &slog.HandlerOptions{Level: slog.LevelDebug})), &b
}

type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// F17, F36: the log names no user, session, account or address, whatever
// happens; lines about the same thing can still be put together.
func TestFlaw17_Flaw36_LogsNameNobody(t *testing.T) {
	log, lines := logged()
	mail := &carrier{err: errRefused{"550 no mailbox dave@example.org (DAVE@EXAMPLE.ORG) here"}}
	w := newWorld(t, keyserver.Options{Logger: log, Challengers: map[string]keyserver.Challenger{"email": mail, "broken": (*brokenCarrier)(nil)}})
	p := w.register("dave")
	a := keyapi.Account{Platform: "email", ID: "dave@example.org"}
	for range 2 {
		_, err := p.challenge(a)
		wantCode(t, err, keyapi.CodeUnavailable)
	}
	_, err := p.challenge(keyapi.Account{Platform: "broken", ID: "dave@example.org"})
	wantCode(t, err, keyapi.CodeInternal)
	w.ask("GET", "/v1/reachable/email/dave%40example.org", p.token(), "")
	w.ask("GET", "/v1/nothing/dave@example.org", p.token(), "")
	first := p.session.RefreshToken
	if _, err := p.refresh(first, p.device); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(time.Minute)
	_, err = p.refresh(first, p.device)
	wantCode(t, err, keyapi.CodeUnauthorized)
	r := httptest.NewRequest("GET", "/v1/server", nil)
	r.Header.Set("X-Forwarded-For", "192.0.2.77")
	serve(w, r)

	out := lines.String()
	for _, secret := range []string{
		"dave", "DAVE", "example.org\"", "192.0.2.77", hexOf(p.session.UserID), hexOf(p.session.SessionID), p.token(), hexOf(first),
	} {
		if strings.Contains(out, secret) {
			t.Errorf("the log holds %q:\n%s", secret, out)
		}
	}
	names := map[string]int{}
	for line := range strings.Lines(out) {
		var l struct{ Account, Msg string }
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		if l.Account != "" {
			names[l.Account]++
		}
	}
	if len(names) != 1 || !strings.Contains(out, "presented again") || !strings.Contains(out, "trusted_proxies") || !strings.Contains(out, "panicked") {
		t.Errorf("names %v in\n%s", names, out)
	}
}

type errRefused struct{ text string }

func (e errRefused) Error() string { return e.text }

func hexOf(b []byte) string {
	return keyserver.UserID(append(append([]byte(nil), b...), make([]byte, 16)...)[:16]).String()
}

// Two processes with different keys that both began before anybody registered:
// the second takes no users, whose passwords would look wrong at the first.
func TestOtherKeysOnOneStoreTakeNoUsers(t *testing.T) {
	store, clock := newStore(t), newClock()
	first := newNode(t, keyserver.Options{Store: store, Now: clock.now, TokenKey: newKey()})
	second := newNode(t, keyserver.Options{Store: store, Now: clock.now, TokenKey: newKey(), Pepper: random(32)})
	first.at(t, clock).register("alice")
	_, err := second.c.Register(t.Context(), keyapi.RegisterRequest{
		Username: "bob", AuthVersion: 1, UserID: random(16), Auth: random(32), Device: keyapi.Device{Name: "d", Key: public(newKey())},
		KDF: keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
	})
	wantCode(t, err, keyapi.CodeInternal)
	first.at(t, clock).register("bob")
}
