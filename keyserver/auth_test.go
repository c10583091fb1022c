package keyserver_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// F18: the access token is checked as an access token, the refresh token is
// never good for anything but refreshing.
func TestFlaw18_AccessNeverFromRefreshToken(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	refresh := base64.StdEncoding.EncodeToString(p.session.RefreshToken)
	for _, token := range []string{refresh, base64.RawURLEncoding.EncodeToString(p.session.RefreshToken), string(p.session.RefreshToken)} {
		r := httptest.NewRequest("GET", "/v1/objects", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		if code := serve(w, r); code != 401 {
			t.Errorf("refresh token as access token: %d", code)
		}
	}
	w.clock.advance(keyserver.TokenLifetime + time.Second)
	_, err := w.c.ObjectIndex(t.Context(), p.token())
	wantCode(t, err, keyapi.CodeUnauthorized)
	s, err := p.refresh(p.session.RefreshToken, p.device)
	if err != nil {
		t.Fatalf("refresh after the access token's end: %v", err)
	}
	if _, err := w.c.ObjectIndex(t.Context(), s.AccessToken); err != nil {
		t.Fatalf("new access token: %v", err)
	}
}

func serve(w *world, r *http.Request) int {
	rec := httptest.NewRecorder()
	w.Handler.ServeHTTP(rec, r)
	return rec.Code
}

// F19: logout revokes at once; refresh tokens rotate; a used one ends the
// family.
func TestThreat13_Flaw19_LogoutRevokesAtOnce(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	second, err := p.login(newKey(), p.auth)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.c.Logout(t.Context(), p.token()); err != nil {
		t.Fatal(err)
	}
	_, err = w.c.ObjectIndex(t.Context(), p.token())
	wantCode(t, err, keyapi.CodeUnauthorized)
	_, err = p.refresh(p.session.RefreshToken, p.device)
	wantCode(t, err, keyapi.CodeUnauthorized)
	if _, err := w.c.ObjectIndex(t.Context(), second.AccessToken); err != nil {
		t.Fatalf("the other device's session: %v", err)
	}
}

func TestThreat11_Flaw19_RefreshRotatesAndReuseEndsTheFamily(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	first := p.session.RefreshToken
	next, err := p.refresh(first, p.device)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(next.RefreshToken, first) {
		t.Fatal("refresh token was not rotated")
	}
	w.clock.advance(29 * time.Second)
	again, err := p.refresh(first, p.device)
	if err != nil {
		t.Fatalf("retry within 30 s: %v", err)
	}
	if !bytes.Equal(again.RefreshToken, next.RefreshToken) {
		t.Fatal("retry within 30 s gave another successor")
	}
	w.clock.advance(2 * time.Second)
	_, err = p.refresh(first, p.device)
	wantCode(t, err, keyapi.CodeUnauthorized)
	_, err = p.refresh(next.RefreshToken, p.device)
	wantCode(t, err, keyapi.CodeUnauthorized)
	_, err = w.c.ObjectIndex(t.Context(), next.AccessToken)
	wantCode(t, err, keyapi.CodeUnauthorized)
}

func TestThreat11_Flaw19_OldTokenOfALongFamilyEndsIt(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	token := p.session.RefreshToken
	for range 5 {
		s, err := p.refresh(token, p.device)
		if err != nil {
			t.Fatal(err)
		}
		token = s.RefreshToken
	}
	_, err := p.refresh(p.session.RefreshToken, p.device) // five rotations old, within 30 s
	wantCode(t, err, keyapi.CodeUnauthorized)
	_, err = p.refresh(token, p.device)
	wantCode(t, err, keyapi.CodeUnauthorized)
}

func TestThreat12_Flaw19_RefreshNeedsTheDeviceKey(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	thief := newKey()
	_, err := p.refresh(p.session.RefreshToken, thief)
	wantCode(t, err, keyapi.CodeUnauthorized)
	next, err := p.refresh(p.session.RefreshToken, p.device)
	if err != nil {
		t.Fatalf("a thief without the device key spoilt the token: %v", err)
	}
	_, err = p.refresh(p.session.RefreshToken, thief) // used one, other key
	wantCode(t, err, keyapi.CodeUnauthorized)
	_, err = p.refresh(next.RefreshToken, p.device)
	wantCode(t, err, keyapi.CodeUnauthorized)
}

// Seed 0.10: bearer only, no cookies, no CORS, one algorithm, one type.
func TestThreat14_SeedFlaw10_TokensAreNotCookies(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")

	r := httptest.NewRequest("GET", "/v1/objects", nil)
	r.AddCookie(&http.Cookie{Name: "accessToken", Value: p.token()})
	r.AddCookie(&http.Cookie{Name: "__Host-accessToken", Value: p.token()})
	if code := serve(w, r); code != 401 {
		t.Errorf("token in a cookie: %d", code)
	}
	body := fmt.Sprintf(`{"username":"alice","auth_version":1,"auth":%q,"device":{"name":"","key":%q}}`,
		base64.StdEncoding.EncodeToString(p.auth), base64.StdEncoding.EncodeToString(public(p.device)))
	for _, method := range []string{"POST", "OPTIONS"} {
		r = httptest.NewRequest(method, "/v1/auth/login", strings.NewReader(body))
		r.Header.Set("Origin", "https://evil.example")
		r.Header.Set("Access-Control-Request-Method", "POST")
		rec := httptest.NewRecorder()
		w.Handler.ServeHTTP(rec, r)
		if method == "POST" && rec.Code != 200 {
			t.Errorf("login: %d %s", rec.Code, rec.Body)
		}
		for name := range rec.Header() {
			if name == "Set-Cookie" || strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s answers with header %s", method, name)
			}
		}
	}
}

func TestThreat10_SeedFlaw10_OnlyOurTokensCount(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	session, err := p.login(newKey(), p.auth)
	if err != nil {
		t.Fatal(err)
	}
	parsed, _, err := jwt.NewParser().ParseUnverified(session.AccessToken, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	good := func() *jwt.Token {
		c := jwt.MapClaims{}
		for k, v := range parsed.Claims.(jwt.MapClaims) {
			c[k] = v
		}
		tok := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
		tok.Header["typ"], tok.Header["kid"] = parsed.Header["typ"], parsed.Header["kid"]
		return tok
	}
	key := keyservertest.TokenKey()
	sign := func(change func(*jwt.Token, jwt.MapClaims)) string {
		tok := good()
		change(tok, tok.Claims.(jwt.MapClaims))
		var k any = key
		switch tok.Method {
		case jwt.SigningMethodHS256:
			k = []byte(key.Public().(ed25519.PublicKey))
		case jwt.SigningMethodNone:
			k = jwt.UnsafeAllowNoneSignatureType
		}
		s, err := tok.SignedString(k)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	bad := map[string]string{
		"alg none": sign(func(tok *jwt.Token, _ jwt.MapClaims) {
			tok.Method, tok.Header["alg"] = jwt.SigningMethodNone, "none"
		}),
		"HS256 with the public key": sign(func(tok *jwt.Token, _ jwt.MapClaims) {
			tok.Method, tok.Header["alg"] = jwt.SigningMethodHS256, "HS256"
		}),
		"typ JWT":            sign(func(tok *jwt.Token, _ jwt.MapClaims) { tok.Header["typ"] = "JWT" }),
		"no typ":             sign(func(tok *jwt.Token, _ jwt.MapClaims) { delete(tok.Header, "typ") }),
		"unknown kid":        sign(func(tok *jwt.Token, _ jwt.MapClaims) { tok.Header["kid"] = "../../etc/passwd" }),
		"kid not text":       sign(func(tok *jwt.Token, _ jwt.MapClaims) { tok.Header["kid"] = 7 }),
		"other audience":     sign(func(_ *jwt.Token, c jwt.MapClaims) { c["aud"] = keyservertest.Origin + "/admin" }),
		"other issuer":       sign(func(_ *jwt.Token, c jwt.MapClaims) { c["iss"] = "https://evil.example" }),
		"no end":             sign(func(_ *jwt.Token, c jwt.MapClaims) { delete(c, "exp") }),
		"no session":         sign(func(_ *jwt.Token, c jwt.MapClaims) { delete(c, "sid") }),
		"other session":      sign(func(_ *jwt.Token, c jwt.MapClaims) { c["sid"] = strings.Repeat("0", 32) }),
		"other user":         sign(func(_ *jwt.Token, c jwt.MapClaims) { c["sub"] = strings.Repeat("0", 32) }),
		"5 KiB, well signed": sign(func(_ *jwt.Token, c jwt.MapClaims) { c["x"] = strings.Repeat("x", 4<<10) }),
		"5 KiB of dots":      strings.Repeat(".", 5<<10),
		"nothing":            "",
		"other key": func() string {
			s, err := good().SignedString(newKey())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}(),
	}
	if _, err := w.c.ObjectIndex(t.Context(), sign(func(*jwt.Token, jwt.MapClaims) {})); err != nil {
		t.Fatalf("the unchanged token: %v", err)
	}
	for name, token := range bad {
		r := httptest.NewRequest("GET", "/v1/objects", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		if code := serve(w, r); code != 401 {
			t.Errorf("%s: %d", name, code)
		}
	}
}

// F12 and seed 0.1, server side: what is stored neither is nor contains AUTH or
// a refresh token.
func TestSeedFlaw01_StoreHoldsNoSecretsOfTheUser(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	next, err := p.refresh(p.session.RefreshToken, p.device)
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	file, err := os.ReadFile(w.Path)
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string][]byte{"AUTH": p.auth, "first refresh token": p.session.RefreshToken, "second": next.RefreshToken} {
		for _, form := range [][]byte{secret, []byte(base64.StdEncoding.EncodeToString(secret)), fmt.Appendf(nil, "%x", secret)} {
			if bytes.Contains(file, form) {
				t.Errorf("the file holds the %s", name)
			}
		}
	}
}
