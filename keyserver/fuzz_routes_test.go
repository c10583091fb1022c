package keyserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// routesOf lists what the OpenAPI document of a server names, "METHOD path".
func routesOf(f testing.TB, h http.Handler) []string {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("GET", "/openapi.json", nil))
	var api struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &api); err != nil {
		f.Fatal(err)
	}
	var routes []string
	for path, methods := range api.Paths {
		for method := range methods {
			routes = append(routes, strings.ToUpper(method)+" "+path)
		}
	}
	slices.Sort(routes)
	return routes
}

// knownCodes are the statuses that go with a code; a client trusts no other.
var knownCodes = map[string][]int{
	keyapi.CodeInvalid: {400}, keyapi.CodeUnauthorized: {401}, keyapi.CodeForbidden: {403}, keyapi.CodeVerificationRequired: {403},
	keyapi.CodeNotFound: {404}, keyapi.CodeNoAccount: {404}, keyapi.CodeNoKeyPackage: {404}, keyapi.CodeNoRoute: {404, 405, 406},
	keyapi.CodeTaken: {409}, keyapi.CodeConflict: {409}, keyapi.CodeEpochConflict: {409}, keyapi.CodeInstanceConflict: {409},
	keyapi.CodeKeyReused: {409}, keyapi.CodeMoved: {409}, keyapi.CodeTooLarge: {413}, keyapi.CodeRateLimited: {429},
	keyapi.CodeUnavailable: {503}, keyapi.CodeQuota: {507},
}

// FuzzRoutes sends anything to every route: segments of the path, query, token,
// headers, body in both encodings. No answer is a 500, no error is anything but
// a problem document that fits its status, and no answer quotes the token.
func FuzzRoutes(f *testing.F) {
	store, err := boltstore.Open(filepath.Join(f.TempDir(), "keyserver.db"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = store.Close() })
	chat := &keyservertest.Messenger{}
	s, err := keyserver.New(keyserver.Options{
		Store: store, Origin: keyservertest.Origin, Pepper: keyservertest.Pepper(), Limits: keyservertest.Unlimited(),
		Browsers: true, Origins: []string{"https://mail.example.org"}, Challengers: map[string]keyserver.Challenger{"chat": chat},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() })
	routes := routesOf(f, s)
	token := registerAt(f, s)
	if rec := answer(s, "GET", "/v1/sessions", "", "Bearer "+token, nil); rec.Code != 200 {
		f.Fatalf("the seed's token: %d", rec.Code)
	}

	account := `{"platform":"chat","id":"x"}`
	for i, route := range routes {
		body := map[string]string{
			"POST /v1/accounts":         `{"account":` + account + `,"identity_key":"` + strings.Repeat("A", 43) + `="}`,
			"POST /v1/accounts/verify":  `{"account":` + account + `,"identity_key":"` + strings.Repeat("A", 43) + `="}`,
			"POST /v1/objects":          `{"ids":["` + strings.Repeat("00", 32) + `"]}`,
			"POST /v1/tx":               `{"put":[{"id":"` + strings.Repeat("00", 32) + `","counter":1,"data":"AA=="}]}`,
			"POST /v1/store":            `{"change":"leave","move":1,"to":"https://x.example"}`,
			"POST /v1/store/import":     `{"move":1,"objects":[{"id":"` + strings.Repeat("00", 32) + `","counter":1,"data":"AA=="}]}`,
			"POST /v1/auth/params":      `{"username":"alice"}`,
			"POST /v1/auth/refresh":     `{"refresh_token":"` + strings.Repeat("A", 43) + `=","time":"2026-01-02T03:04:05Z","signature":"AA=="}`,
			"POST /v1/store/directions": `{"counter":1,"data":"AA=="}`,
		}[route]
		if body == "" && strings.HasPrefix(route, "POST") {
			body = "{}"
		}
		f.Add(uint16(i), "email", "alice@example.org", "after=0&limit=1", true, false, "0123456789abcdef", []byte(body))
		f.Add(uint16(i), "..", "%2e%2e/\x00", "after=-1", true, true, "\xff", []byte{0xa0})
		f.Add(uint16(i), strings.Repeat("x", 2000), "/", "wait=1e9", false, false, "", []byte(strings.Repeat("[", 100)))
	}
	f.Fuzz(func(t *testing.T, route uint16, platform, id, query string, signedIn, cbor bool, key string, body []byte) {
		method, path, _ := strings.Cut(routes[int(route)%len(routes)], " ")
		if path == "/v1/auth/logout" && signedIn { // the token serves for all inputs
			return
		}
		path = strings.NewReplacer("{platform}", escape(platform), "{id}", escape(id), "{conversation}", escape(id), "{session}", escape(id)).Replace(path)
		if strings.Contains(query, "wait") { // nobody waits here
			query = strings.ReplaceAll(query, "wait", "wa")
		}
		authorization := "Bearer " + id
		if signedIn {
			authorization = "Bearer " + token
		}
		rec := answer(s, method, path, query, authorization, body, "Idempotency-Key", key, "Content-Type", media(cbor), "Accept", media(cbor), "Cookie", "__Host-cloudmls-refresh="+id)
		checkAnswer(t, method+" "+path, token, rec)
	})
}

func media(cbor bool) string {
	if cbor {
		return "application/cbor"
	}
	return "application/json"
}

// escape percent-encodes everything.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, "%%%02X", s[i])
	}
	if s == "" {
		return "%20"
	}
	return b.String()
}

func answer(h http.Handler, method, path, query, authorization string, body []byte, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://keys.test.example/v1/server", bytes.NewReader(body))
	u := *r.URL
	r.RequestURI = path
	if parsed, err := u.Parse("http://keys.test.example" + path); err == nil {
		r.URL = parsed
	}
	r.URL.RawQuery = query
	r.Header.Set("Authorization", authorization)
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] != "" {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}

func checkAnswer(t *testing.T, what, token string, rec *httptest.ResponseRecorder) {
	t.Helper()
	if strings.Contains(rec.Body.String(), token) {
		t.Fatalf("%s: the answer quotes the token", what)
	}
	switch rec.Code {
	case 200, 204:
		return
	}
	var p keyapi.Problem
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || rec.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("%s: %d, not a problem document: %q", what, rec.Code, rec.Body)
	}
	if p.Status != rec.Code || !slices.Contains(knownCodes[p.Code], rec.Code) {
		t.Fatalf("%s: %d with %+v", what, rec.Code, p)
	}
}

// registerAt makes a user by the API alone and gives its access token.
func registerAt(f testing.TB, h http.Handler) string {
	b, err := json.Marshal(keyapi.RegisterRequest{
		Username: "alice", AuthVersion: 1, UserID: random(16), Auth: random(32), Device: keyapi.Device{Key: public(newKey())},
		KDF: keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
	})
	if err != nil {
		f.Fatal(err)
	}
	rec := answer(h, "POST", "/v1/auth/register", "", "", b, "Content-Type", "application/json")
	var s keyapi.Session
	if err := json.Unmarshal(rec.Body.Bytes(), &s); err != nil || rec.Code != 200 {
		f.Fatalf("register: %d %s", rec.Code, rec.Body)
	}
	return s.AccessToken
}
