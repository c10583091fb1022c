package keyserver_test

import (
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// browse makes a request as a browser would: with the page's origin, the
// browser's own word about where it came from, and the cookies of the host.
func (w *world) browse(method, path, site string, cookies []*http.Cookie, body any) *httptest.ResponseRecorder {
	w.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	r := httptest.NewRequest(method, "https://keys.test.example"+path, strings.NewReader(string(b)))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", site)
	if site == "cross-site" {
		r.Header.Set("Origin", "https://evil.example")
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	if len(cookies) == 0 {
		r.Header.Set("CloudMLS-Tokens", "cookie")
	}
	rec := httptest.NewRecorder()
	w.Handler.ServeHTTP(rec, r)
	return rec
}

func (p *person) loginRequest(device ed25519.PrivateKey) keyapi.LoginRequest {
	return keyapi.LoginRequest{Username: p.name, AuthVersion: 1, Auth: p.auth, Device: keyapi.Device{Name: "browser", Key: public(device)}}
}

func TestThreat14_CookiesOfBrowsers(t *testing.T) {
	w := newWorld(t, keyserver.Options{Browsers: true})
	p, device := w.person("alice"), newKey()
	login := p.loginRequest(device)
	if rec := w.browse("POST", "/v1/auth/login", "cross-site", nil, login); rec.Code != 403 || len(rec.Result().Cookies()) > 0 {
		t.Errorf("login from another site: %d", rec.Code)
	}
	rec := w.browse("POST", "/v1/auth/login", "same-origin", nil, login)
	var s keyapi.Session
	if err := json.Unmarshal(rec.Body.Bytes(), &s); err != nil || rec.Code != 200 {
		t.Fatalf("login: %d %s", rec.Code, rec.Body)
	}
	if s.AccessToken != "" || len(s.RefreshToken) > 0 || strings.Contains(rec.Body.String(), "token") {
		t.Errorf("the answer holds a token: %s", rec.Body)
	}
	cookies := rec.Result().Cookies()
	if len(cookies) != 2 {
		t.Fatalf("cookies: %v", cookies)
	}
	for _, c := range cookies {
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || c.MaxAge <= 0 {
			t.Errorf("cookie %+v", c)
		}
		if strings.Contains(rec.Body.String(), c.Value) {
			t.Errorf("the answer holds the value of %s", c.Name)
		}
	}
	if rec := w.browse("GET", "/v1/sessions", "same-origin", cookies, nil); rec.Code != 200 {
		t.Errorf("with cookies: %d %s", rec.Code, rec.Body)
	}
	tx := keyapi.Tx{Put: []keyapi.Object{put("x", 1, "x")}}
	if rec := w.browse("POST", "/v1/tx", "cross-site", cookies, tx); rec.Code != 403 {
		t.Errorf("changing something from another site: %d", rec.Code)
	}
	if counter, _ := p.object(objectID("x")); counter != 0 {
		t.Fatal("another site wrote an object")
	}
	if rec := w.browse("POST", "/v1/tx", "same-origin", cookies, tx); rec.Code != 200 {
		t.Errorf("changing something: %d %s", rec.Code, rec.Body)
	}
	// A request with a bearer token is a program's: its cookies count for nothing.
	r := httptest.NewRequest("GET", "/v1/sessions", nil)
	r.Header.Set("Authorization", "Bearer nonsense")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	if code := serve(w, r); code != 401 {
		t.Errorf("bad bearer token beside good cookies: %d", code)
	}
	// Nor do they count against it: a page of another origin may have a token.
	r = httptest.NewRequest("POST", "/v1/tx", strings.NewReader("{}"))
	r.Header.Set("Authorization", "Bearer "+p.token())
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	if code := serve(w, r); code != 200 {
		t.Errorf("good bearer token beside cookies: %d", code)
	}
	w.refreshByCookie(p, device, s, cookies)
}

// refreshByCookie: the page cannot read its refresh token, so its device signs
// the hash; the rest is as with programs.
func (w *world) refreshByCookie(p *person, device ed25519.PrivateKey, s keyapi.Session, cookies []*http.Cookie) {
	w.t.Helper()
	refresh := func(key ed25519.PrivateKey, cookies []*http.Cookie, site string) *httptest.ResponseRecorder {
		r := keyapi.RefreshRequest{Time: w.clock.now()}
		r.Signature = ed25519.Sign(key, keyapi.CookieRefreshSigningInput(w.Origin, r.Time, s.RefreshHash))
		return w.browse("POST", "/v1/auth/refresh", site, cookies, r)
	}
	if rec := refresh(newKey(), cookies, "same-origin"); rec.Code != 401 {
		w.t.Errorf("refresh with another device's key: %d", rec.Code)
	}
	if rec := refresh(device, cookies, "cross-site"); rec.Code != 403 {
		w.t.Errorf("refresh from another site: %d", rec.Code)
	}
	body := keyapi.RefreshRequest{Time: w.clock.now()}
	body.Signature = ed25519.Sign(device, keyapi.CookieRefreshSigningInput(w.Origin, body.Time, s.RefreshHash))
	b, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/v1/auth/refresh", strings.NewReader(string(b)))
	r.Header.Set("Authorization", "Bearer "+p.token())
	for _, c := range cookies {
		r.AddCookie(c)
	}
	if code := serve(w, r); code != 400 {
		w.t.Errorf("refresh by the cookies of a request with a bearer token: %d", code)
	}
	rec := refresh(device, cookies, "same-origin")
	fresh := rec.Result().Cookies()
	if rec.Code != 200 || len(fresh) != 2 || strings.Contains(rec.Body.String(), "token") {
		w.t.Fatalf("refresh: %d %s", rec.Code, rec.Body)
	}
	if rec := w.browse("POST", "/v1/auth/logout", "same-origin", fresh, nil); rec.Code != 204 || len(rec.Result().Cookies()) != 2 || rec.Result().Cookies()[0].MaxAge >= 0 {
		w.t.Errorf("logout: %d %v", rec.Code, rec.Result().Cookies())
	}
	if rec := w.browse("GET", "/v1/sessions", "same-origin", fresh, nil); rec.Code != 401 {
		w.t.Errorf("after logout: %d", rec.Code)
	}
}

// Without the operator's word there are no cookies, in neither direction.
func TestThreat14_NoCookiesUnlessConfigured(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	rec := w.browse("POST", "/v1/auth/login", "same-origin", nil, p.loginRequest(newKey()))
	if rec.Code != 400 || len(rec.Result().Cookies()) > 0 {
		t.Errorf("asking for cookies: %d %s", rec.Code, rec.Body)
	}
	rec = w.browse("GET", "/v1/sessions", "same-origin", []*http.Cookie{{Name: "__Host-cloudmls-access", Value: p.token()}}, nil)
	if rec.Code != 401 {
		t.Errorf("token in a cookie: %d", rec.Code)
	}
}

// CORS speaks of the configured origins and of no other.
func TestThreat14_CORSIsForConfiguredOriginsOnly(t *testing.T) {
	w := newWorld(t, keyserver.Options{Origins: []string{"https://mail.example.org"}})
	ask := func(method, origin string) http.Header {
		r := httptest.NewRequest(method, "/v1/server", nil)
		r.Header.Set("Origin", origin)
		if method == "OPTIONS" {
			r.Header.Set("Access-Control-Request-Method", "GET")
		}
		rec := httptest.NewRecorder()
		w.Handler.ServeHTTP(rec, r)
		return rec.Header()
	}
	for _, method := range []string{"GET", "OPTIONS"} {
		h := ask(method, "https://mail.example.org")
		if h.Get("Access-Control-Allow-Origin") != "https://mail.example.org" || h.Get("Access-Control-Allow-Credentials") != "" || h.Get("Vary") != "Origin" {
			t.Errorf("%s of the configured origin: %v", method, h)
		}
		for _, other := range []string{"https://evil.example", "null", "https://mail.example.org.evil.example", "http://mail.example.org", ""} {
			for name := range ask(method, other) {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s of %q: %s", method, other, name)
				}
			}
		}
	}
	for _, bad := range []string{"*", "mail.example.org", "http://mail.example.org", "https://mail.example.org/", "https://Mail.example.org"} {
		if _, err := keyserver.New(keyserver.Options{Store: w.store(), Origin: "x", Pepper: random(32), Origins: []string{bad}}); err == nil {
			t.Errorf("origin %q is accepted", bad)
		}
	}
}

// store is one that nothing is asked of.
func (w *world) store() keyserver.Store { return &countedStore{} }
