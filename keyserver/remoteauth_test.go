package keyserver_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// Behind the URL of the server with the role auth may sit somebody else: keys
// under another name, and words about another session, count for nothing.
func TestThreat10_AnswersOfTheOtherServerAreChecked(t *testing.T) {
	a := newApart(t, keyclient.Options{})
	p, other := a.person("alice"), a.person("mallory")
	for name, change := range map[string]func(path string, answer map[string]any){
		"nothing":             func(string, map[string]any) {},
		"another issuer":      func(_ string, m map[string]any) { m["issuer"] = "https://evil.example" },
		"another user":        func(_ string, m map[string]any) { m["user_id"] = other.session.UserID },
		"another session":     func(_ string, m map[string]any) { m["session_id"] = other.session.SessionID },
		"keys of another use": func(_ string, m map[string]any) { breakKeys(m) },
	} {
		liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			a.auth.Server.ServeHTTP(rec, r)
			var m map[string]any
			if json.Unmarshal(rec.Body.Bytes(), &m) == nil {
				change(r.URL.Path, m)
			}
			w.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
			w.WriteHeader(rec.Code)
			_ = json.NewEncoder(w).Encode(m)
		}))
		n := newNode(t, keyserver.Options{
			Store: newStore(t), Now: a.clock.now, Roles: []keyserver.Role{keyserver.RoleStore},
			Auth: &keyserver.RemoteAuth{URL: liar.URL, Origin: a.auth.Origin},
		})
		_, err := n.c.ObjectIndex(t.Context(), p.token())
		if name == "nothing" && err != nil {
			t.Errorf("unchanged: %v", err)
		}
		if name != "nothing" && !keyclient.IsCode(err, keyapi.CodeUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
		liar.Close()
	}
}

func breakKeys(m map[string]any) {
	keys, _ := m["keys"].([]any)
	for _, k := range keys {
		k.(map[string]any)["use"] = "enc"
	}
}

// A key that has ended is refused at once, not when keys are looked up next.
func TestThreat10_EndedKeysAreRefusedFromMemory(t *testing.T) {
	nodes, clock, _ := newNodes(t, 1, keyserver.Options{TokenLifetime: 40 * 24 * time.Hour})
	p := nodes[0].at(t, clock).register("alice")
	clock.advance(31*24*time.Hour - 20*time.Second)
	if _, err := nodes[0].c.Sessions(t.Context(), p.token()); err != nil {
		t.Fatalf("just before its end: %v", err)
	}
	clock.advance(30 * time.Second) // less than the time between two looks into the store
	_, err := nodes[0].c.Sessions(t.Context(), p.token())
	wantCode(t, err, keyapi.CodeUnauthorized)
}

// keysLater holds back the second question for keys.
type keysLater struct {
	asked   atomic.Int32
	begun   chan struct{}
	release chan struct{}
}

func (k *keysLater) Do(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/v1/keys" && k.asked.Add(1) == 2 {
		close(k.begun)
		<-k.release
	}
	return http.DefaultClient.Do(r)
}

// While one request asks for the keys again, others are served with those that
// are known: not everybody is turned away every ten minutes.
func TestKeysServeWhileTheyAreAskedForAgain(t *testing.T) {
	w := newWorld(t, keyserver.Options{TokenLifetime: time.Hour})
	k := &keysLater{begun: make(chan struct{}), release: make(chan struct{})}
	n := newNode(t, keyserver.Options{
		Store: newStore(t), Now: w.clock.now, Roles: []keyserver.Role{keyserver.RoleStore},
		Auth: &keyserver.RemoteAuth{URL: w.URL, Origin: w.Origin, Client: k},
	})
	p := w.register("alice")
	index := func() error {
		_, err := n.c.ObjectIndex(t.Context(), p.token())
		return err
	}
	if err := index(); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(10*time.Minute + time.Second)
	first := make(chan error, 1)
	go func() { first <- index() }()
	<-k.begun
	if err := index(); err != nil {
		t.Errorf("meanwhile: %v", err)
	}
	w.clock.advance(5 * time.Second) // no answer: nothing is believed on and on
	close(k.release)
	if err := <-first; err != nil {
		t.Errorf("the one that asked: %v", err)
	}
	if got := k.asked.Load(); got != 2 {
		t.Errorf("asked for keys %d times", got)
	}
}

// The clocks of a server's processes differ by some seconds: a token that one
// has just issued serves at all of them. One of next hour does not.
func TestTokensServeWhereTheClockIsBehind(t *testing.T) {
	clock, store := newClock(), newStore(t)
	node := func(ahead time.Duration) *node {
		return newNode(t, keyserver.Options{Store: store, Now: func() time.Time { return clock.now().Add(ahead) }})
	}
	p := node(0).at(t, clock).register("alice")
	if _, err := node(-5*time.Second).c.Sessions(t.Context(), p.token()); err != nil {
		t.Errorf("five seconds behind: %v", err)
	}
	_, err := node(-time.Hour).c.Sessions(t.Context(), p.token())
	wantCode(t, err, keyapi.CodeUnauthorized)
	_, err = node(10*time.Minute).c.Sessions(t.Context(), p.token())
	wantCode(t, err, keyapi.CodeUnauthorized)
}
