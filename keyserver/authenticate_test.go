package keyserver_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// Threat 13: on every route, wherever it looks for the session, one that has
// ended is refused, and one opened with the recovery code as the route says.
func TestThreat13_EveryRouteLooksForTheSession(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p, other := w.person("alice"), w.person("bob")
	recovering, err := w.c.Recover(t.Context(), keyapi.RecoverRequest{
		Username: "bob", AuthVersion: 1, RecoveryAuth: other.recovery, Device: keyapi.Device{Name: "new", Key: public(newKey())},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.c.Logout(t.Context(), p.token()); err != nil {
		t.Fatal(err)
	}
	var api struct {
		Paths map[string]map[string]struct{ Security []any }
	}
	if err := json.Unmarshal(w.ask("GET", "/openapi.json", "", "").Body.Bytes(), &api); err != nil {
		t.Fatal(err)
	}
	mayRecover := map[string]bool{
		"post /v1/auth/logout": true, "get /v1/auth/session": true, "post /v1/auth/password": true, "get /v1/objects": true, "get /v1/objects/{object}": true, "post /v1/objects": true, "get /v1/store": true, "post /v1/store/directions": true,
	}
	behind := 0
	for path, methods := range api.Paths {
		for method, operation := range methods {
			if operation.Security == nil {
				continue
			}
			behind++
			target := strings.NewReplacer("{platform}", "email", "{id}", "alice@example.org", "{conversation}", strings.Repeat("0", 32), "{session}", strings.Repeat("0", 32)).Replace(path)
			body := ""
			if method == "post" {
				body = "{}"
			}
			if strings.Contains(path, "/delivery/") && method == "get" {
				target += "?wait=60" // which would be noticed
			}
			if rec := w.ask(strings.ToUpper(method), target, p.token(), body); rec.Code != 401 {
				t.Errorf("%s %s with an ended session: %d %s", method, path, rec.Code, rec.Body)
			}
			if method+path == "post/v1/auth/logout" {
				continue // the session is needed for the others
			}
			if rec := w.ask(strings.ToUpper(method), target, recovering.AccessToken, body); (rec.Code == 403) == mayRecover[method+" "+path] {
				t.Errorf("%s %s with the recovery code: %d %s", method, path, rec.Code, rec.Body)
			}
		}
	}
	if behind < 22 {
		t.Errorf("%d routes need a token, want 22 at least", behind)
	}
}

// Threat 13: a session that has ended takes nothing from what its user may do.
func TestThreat13_EndedSessionsAreNotCounted(t *testing.T) {
	l := keyservertest.Unlimited()
	l.Writes, l.Commits, l.LookUps, l.Claims = keyserver.Rate{Burst: 1, Every: time.Hour}, keyserver.Rate{Burst: 1, Every: time.Hour}, keyserver.Rate{Burst: 2, Every: time.Hour}, keyserver.Rate{Burst: 1, Every: time.Hour}
	w := newWorld(t, keyserver.Options{Limits: l})
	p := w.person("alice") // which is one look-up
	ended, err := p.login(newKey(), p.auth)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.c.Logout(t.Context(), ended.AccessToken); err != nil {
		t.Fatal(err)
	}
	g := newGroup()
	thief := *p
	thief.session = ended
	for range 3 {
		_, err := thief.tx(keyapi.Tx{Commit: g.create(p.account, "one")})
		wantCode(t, err, keyapi.CodeUnauthorized)
		_, err = w.c.ClaimKeyPackage(t.Context(), ended.AccessToken, p.account)
		wantCode(t, err, keyapi.CodeUnauthorized)
	}
	if _, err := p.tx(keyapi.Tx{Commit: g.create(p.account, "one")}); err != nil {
		t.Errorf("the user's own transaction: %v", err)
	}
	_, err = w.c.ClaimKeyPackage(t.Context(), p.token(), p.account)
	wantCode(t, err, keyapi.CodeNoKeyPackage)
	_, err = p.tx(keyapi.Tx{Commit: g.create(p.account, "one")})
	wantCode(t, err, keyapi.CodeRateLimited)
	_, err = w.c.ClaimKeyPackage(t.Context(), p.token(), p.account)
	wantCode(t, err, keyapi.CodeRateLimited)
}

// Threat 13: the body of a session that has ended is not read, but for what is
// read from anybody.
func TestThreat13_EndedSessionsSendNoLargeBodies(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	if err := w.c.Logout(t.Context(), p.token()); err != nil {
		t.Fatal(err)
	}
	for _, length := range []int64{-1, 16<<10 + 1} {
		body := &countingReader{r: bytes.NewReader(make([]byte, 16<<10+1))}
		r := httptest.NewRequest("POST", "/v1/tx", body)
		r.ContentLength = length
		r.Header.Set("Authorization", "Bearer "+p.token())
		if code := serve(w, r); code != 401 || body.n > 0 {
			t.Errorf("body of length %d: %d, %d octets were read", length, code, body.n)
		}
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}
