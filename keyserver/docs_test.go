package keyserver_test

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// The page for people names every route, and nothing of another host.
func TestDocsAreSelfContained(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	rec := w.ask("GET", "/docs", "", "")
	page := rec.Body.String()
	if rec.Code != 200 || !strings.HasPrefix(rec.Header().Get("Content-Type"), "text/html") {
		t.Fatalf("%d %v", rec.Code, rec.Header())
	}
	policy := rec.Header().Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
		t.Errorf("policy %q", policy)
	}
	for _, bad := range []string{"<script", "http://", "https://", "src=", "@import", "<link"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	for _, route := range routesOf(t, w.Handler) {
		if !strings.Contains(page, "<code>"+route+"</code>") {
			t.Errorf("%s is not in it", route)
		}
	}
	for _, ref := range regexp.MustCompile(`href="#([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(page, `id="`+ref[1]+`"`) {
			t.Errorf("#%s leads nowhere", ref[1])
		}
	}
}

// The OpenAPI document has both encodings of each body, and problems with each
// route.
func TestOpenAPINamesBothEncodings(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	var api struct {
		Paths map[string]map[string]struct {
			RequestBody *struct{ Content map[string]any }
			Responses   map[string]struct{ Content map[string]any }
		}
	}
	if err := json.Unmarshal(w.ask("GET", "/openapi.json", "", "").Body.Bytes(), &api); err != nil {
		t.Fatal(err)
	}
	bodies := 0
	for path, methods := range api.Paths {
		for method, op := range methods {
			contents := []map[string]any{op.Responses["200"].Content}
			if op.RequestBody != nil {
				contents = append(contents, op.RequestBody.Content)
				bodies++
			}
			for _, c := range contents {
				if len(c) != 0 && (len(c) != 2 || c["application/json"] == nil || c["application/cbor"] == nil) {
					t.Errorf("%s %s: %v", method, path, c)
				}
			}
			if op.Responses["default"].Content["application/problem+json"] == nil {
				t.Errorf("%s %s: no problems", method, path)
			}
		}
	}
	if bodies < 15 {
		t.Errorf("%d bodies", bodies)
	}
}

// Who is no trusted proxy may write what they like into X-Forwarded-For.
func TestThreat09_SpoofedForwardedForHasNoEffect(t *testing.T) {
	l := keyservertest.Unlimited()
	l.SignIn = keyserver.Rate{Burst: 1, Every: time.Minute}
	w := newWorld(t, keyserver.Options{Limits: l})
	for i, forwarded := range []string{"192.0.2.1", "198.51.100.2", "127.0.0.1", "nonsense"} {
		r := httptest.NewRequest("POST", "/v1/auth/params", strings.NewReader(`{"username":"x"}`))
		r.RemoteAddr = "203.0.113.5:1"
		for _, name := range []string{"X-Forwarded-For", "X-Real-IP", "True-Client-IP", "Forwarded"} {
			r.Header.Set(name, forwarded)
		}
		if code := serve(w, r); (code == 200) != (i == 0) {
			t.Errorf("request %d: %d", i, code)
		}
	}
}

// F30, the server's part: an upload is taken whole or not at all, and may be
// repeated, so private parts that are stored first always fit what is published.
func TestFlaw30_UploadsAreAllOrNothing(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	good, other := p.keyPackage(nil), p.keyPackage(nil)
	bad := append([]byte(nil), other...)
	bad[len(bad)-1] ^= 1
	_, err := p.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{good, bad}, LastResort: p.keyPackage(lastResort)})
	wantCode(t, err, keyapi.CodeInvalid)
	n, err := w.c.KeyPackageCount(t.Context(), p.token(), p.account)
	if err != nil || n.Available != 0 || n.LastResort {
		t.Fatalf("half of an upload was taken: %+v, %v", n, err)
	}
	for range 2 {
		if n, err = p.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{good, other}}); err != nil || n.Available != 2 {
			t.Fatalf("%+v, %v", n, err)
		}
	}
}

// A change of password whose answer was lost is asked for again: it is not made
// twice, and the old password, which is wrong by now, is no reason to refuse.
func TestFlaw26_PasswordChangeIsCarriedOutOnce(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.register("alice")
	r := keyapi.PasswordRequest{
		OldAuth: p.auth, AuthVersion: 1, Auth: random(32), Tx: keyapi.Tx{Put: []keyapi.Object{put("wraps", 1, "new")}},
		KDF: keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
	}
	for range 2 {
		if a, err := w.c.ChangePassword(keyed(t, "change of password 1"), p.token(), r); err != nil || !a.Applied {
			t.Fatal(err)
		}
	}
	_, err := w.c.ChangePassword(t.Context(), p.token(), r)
	wantCode(t, err, keyapi.CodeForbidden)
	if _, err := p.login(newKey(), r.Auth); err != nil {
		t.Error(err)
	}
}

// The documents are made when somebody asks for them, once, whoever else is served
// meanwhile; and they are whole.
func TestDocsAreMadeOnce(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	var asked sync.WaitGroup
	for range 4 {
		for _, path := range []string{"/openapi.json", "/docs"} {
			asked.Go(func() {
				if rec := w.ask("GET", path, "", ""); rec.Code != 200 || rec.Body.Len() < 10_000 {
					t.Errorf("%s: %d, %d octets", path, rec.Code, rec.Body.Len())
				}
			})
		}
		asked.Go(func() { w.ask("GET", "/v1/reachable/email/x", "", "") })
	}
	asked.Wait()
	for _, path := range []string{"/openapi.json", "/docs"} {
		first, again := w.ask("GET", path, "", ""), w.ask("GET", path, "", "")
		if !bytes.Equal(first.Body.Bytes(), again.Body.Bytes()) {
			t.Errorf("%s differs from one request to the next", path)
		}
	}
}

// Tests make servers by the thousand: what that costs.
func BenchmarkNew(b *testing.B) {
	store, err := boltstore.Open(filepath.Join(b.TempDir(), "keyserver.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	for b.Loop() {
		s, err := keyserver.New(keyserver.Options{Store: store, Origin: "https://x.example", Pepper: keyservertest.Pepper(), TokenKey: keyservertest.TokenKey()})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
