package keyserver_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
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
