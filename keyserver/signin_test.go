package keyserver_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

func TestThreat08_ParamsOfUnknownUsersLookReal(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	w.register("alice")
	raw := func(name string) (int, []byte) {
		resp, err := http.Post(w.URL+"/v1/auth/params", "application/json", strings.NewReader(fmt.Sprintf(`{"username":%q}`, name)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, b
	}
	code1, known := raw("alice")
	code2, unknown := raw("mallory")
	_, same := raw("Mallory")
	_, other := raw("trent")
	if code1 != 200 || code2 != 200 || len(known) != len(unknown) {
		t.Errorf("answers differ: %d %d, %d and %d octets", code1, code2, len(known), len(unknown))
	}
	if !bytes.Equal(unknown, same) || bytes.Equal(unknown, other) {
		t.Error("pretended parameters are not a function of the name")
	}
	var a, b keyapi.AuthParams
	if json.Unmarshal(known, &a) != nil || json.Unmarshal(unknown, &b) != nil || bytes.Equal(a.KDF.Salt, b.KDF.Salt) {
		t.Error("salts are the same")
	}
}

// Who does not have the pepper cannot tell pretended parameters by computing
// them.
func TestPretendedParamsDependOnThePepper(t *testing.T) {
	ask := func(pepper []byte) keyapi.AuthParams {
		w := newWorld(t, keyserver.Options{Pepper: pepper})
		p, err := w.c.Params(t.Context(), keyapi.ParamsRequest{Username: "mallory"})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, b := ask(random(32)), ask(random(32))
	if bytes.Equal(a.KDF.Salt, b.KDF.Salt) || bytes.Equal(a.UserID, b.UserID) {
		t.Error("two servers pretend the same")
	}
}

func TestThreat08_LoginFailuresLookTheSame(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.register("alice")
	_, wrong := p.login(newKey(), random(32))
	stranger := &person{w: w, name: "mallory"}
	_, unknown := stranger.login(newKey(), random(32))
	a, b := wantCode(t, wrong, keyapi.CodeUnauthorized), wantCode(t, unknown, keyapi.CodeUnauthorized)
	if a.Detail != b.Detail || a.Status != b.Status {
		t.Errorf("wrong password %v, unknown user %v", a, b)
	}
}

func TestThreat09_LoginIsThrottledPerName(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.register("alice"), w.register("bob")
	guesses := 0
	for range 20 {
		_, err := alice.login(newKey(), random(32))
		var code string
		if p, ok := err.(*keyapi.Problem); ok {
			code = p.Code
		}
		if code == keyapi.CodeUnauthorized {
			guesses++
		} else if code != keyapi.CodeRateLimited {
			t.Fatalf("guess: %v", err)
		}
	}
	if guesses != 5 {
		t.Errorf("%d guesses at once, want 5", guesses)
	}
	_, err := alice.login(newKey(), alice.auth)
	wantCode(t, err, keyapi.CodeRateLimited)
	if _, err := alice.login(alice.device, alice.auth); err != nil {
		t.Errorf("a known device is locked out by guesses of strangers: %v", err)
	}
	if _, err := bob.login(newKey(), bob.auth); err != nil {
		t.Errorf("another user is throttled: %v", err)
	}
	w.clock.advance(31 * time.Second)
	if _, err := alice.login(newKey(), alice.auth); err != nil {
		t.Errorf("after the wait: %v", err)
	}
}

func TestThreat09_SignInIsThrottledPerNetwork(t *testing.T) {
	l := keyservertest.Unlimited()
	l.SignIn = keyserver.Rate{Burst: 3, Every: time.Minute}
	w := newWorld(t, keyserver.Options{Limits: l})
	ask := func(addr, forwarded string) int {
		r := httptest.NewRequest("POST", "/v1/auth/params", strings.NewReader(`{"username":"x"}`))
		r.RemoteAddr = addr
		if forwarded != "" {
			r.Header.Set("X-Forwarded-For", forwarded)
		}
		return serve(w, r)
	}
	for i := range 3 {
		if code := ask(fmt.Sprintf("192.0.2.%d:1", i+1), ""); code != 200 {
			t.Fatalf("request %d: %d", i, code)
		}
	}
	if code := ask("192.0.2.77:1", ""); code != 429 {
		t.Errorf("same network: %d", code)
	}
	if code := ask("192.0.2.77:1", "203.0.113.9"); code != 429 {
		t.Errorf("spoofed X-Forwarded-For: %d", code)
	}
	if code := ask("198.51.100.1:1", ""); code != 200 {
		t.Errorf("other network: %d", code)
	}
	w.clock.advance(time.Minute)
	if code := ask("192.0.2.1:1", ""); code != 200 {
		t.Errorf("after a minute: %d", code)
	}
}

func TestRegistrationTakesNamesAndIDsOnce(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice := w.register("alice")
	r := keyapi.RegisterRequest{
		Username: "ALICE", AuthVersion: 1, UserID: random(16), Auth: random(32), Device: keyapi.Device{Key: random(32)},
		KDF: keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
	}
	_, err := w.c.Register(t.Context(), r)
	wantCode(t, err, keyapi.CodeTaken)
	r.Username, r.UserID = "other", alice.session.UserID
	_, err = w.c.Register(t.Context(), r)
	wantCode(t, err, keyapi.CodeTaken)
	for _, name := range []string{"", "a b", "a\tb", "bücher", strings.Repeat("x", 129), "x\x00"} {
		r.Username, r.UserID = name, random(16)
		_, err := w.c.Register(t.Context(), r)
		wantCode(t, err, keyapi.CodeInvalid)
	}
}

func TestSessionsOfADeviceReplaceEachOther(t *testing.T) {
	l := keyservertest.Unlimited()
	l.Sessions = 2
	w := newWorld(t, keyserver.Options{Limits: l})
	p := w.register("alice")
	again, err := p.login(p.device, p.auth)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.c.ObjectIndex(t.Context(), p.token())
	wantCode(t, err, keyapi.CodeUnauthorized)
	w.clock.advance(time.Second)
	var tokens []string
	for range 2 {
		s, err := p.login(newKey(), p.auth)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, s.AccessToken)
		w.clock.advance(time.Second)
	}
	_, err = w.c.ObjectIndex(t.Context(), again.AccessToken)
	wantCode(t, err, keyapi.CodeUnauthorized)
	for _, token := range tokens {
		if _, err := w.c.ObjectIndex(t.Context(), token); err != nil {
			t.Errorf("a newer session has ended: %v", err)
		}
	}
}

func TestThreat09_ForwardedAddressesOfTrustedProxiesCount(t *testing.T) {
	l := keyservertest.Unlimited()
	l.SignIn = keyserver.Rate{Burst: 1, Every: time.Minute}
	w := newWorld(t, keyserver.Options{Limits: l, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	ask := func(forwarded string) int {
		r := httptest.NewRequest("POST", "/v1/auth/params", strings.NewReader(`{"username":"x"}`))
		r.RemoteAddr = "10.1.2.3:1"
		r.Header.Set("X-Forwarded-For", forwarded)
		return serve(w, r)
	}
	for i, row := range []struct {
		forwarded string
		code      int
	}{
		{"192.0.2.1", 200}, {"192.0.2.1", 429}, {"198.51.100.1", 200},
		{"203.0.113.1, 192.0.2.1", 429}, // what a client writes in front does not count
		{"2001:db8:1:2::1", 200}, {"2001:db8:1:2:3::9", 429}, {"2001:db8:1:3::1", 200},
	} {
		if code := ask(row.forwarded); code != row.code {
			t.Errorf("request %d from %s: %d, want %d", i, row.forwarded, code, row.code)
		}
	}
}

func TestRetiredTokenKeysAreAcceptedUnusedSessionsAreNot(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	w.Close()
	fresh := newKey()
	for name, retired := range map[string][]ed25519.PublicKey{"kept": {public(keyservertest.TokenKey())}, "gone": nil} {
		o := keyserver.Options{Now: w.clock.now, TokenKey: fresh, RetiredTokenKeys: retired}
		s := keyservertest.NewServer(t, keyservertest.Options{Path: w.Path, Server: o})
		_, err := s.Client().Accounts(t.Context(), p.token())
		if (err == nil) != (retired != nil) {
			t.Errorf("old key is %s: %v", name, err)
		}
		s.Close()
	}
	w.clock.advance(366 * 24 * time.Hour)
	s := keyservertest.NewServer(t, keyservertest.Options{Path: w.Path, Server: keyserver.Options{Now: w.clock.now}})
	p.w = &world{Server: s, t: t, clock: w.clock, c: s.Client()}
	_, err := p.refresh(p.session.RefreshToken, p.device)
	wantCode(t, err, keyapi.CodeUnauthorized)
}

// A device whose clock is wrong is told the time and can sign again; its token
// is neither used nor spoilt by the refusal, and an old signature does not serve.
func TestRefreshWithAWrongClock(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	at := func(when time.Time, device ed25519.PrivateKey) (keyapi.Session, error) {
		r := keyapi.RefreshRequest{RefreshToken: p.session.RefreshToken, Time: when}
		r.Signature = ed25519.Sign(device, keyapi.RefreshSigningInput(w.Origin, r))
		return w.c.Refresh(t.Context(), r)
	}
	for _, off := range []time.Duration{-400 * 24 * time.Hour, -time.Hour - time.Second, time.Hour + time.Second, 400 * 24 * time.Hour} {
		_, err := at(w.clock.now().Add(off), p.device)
		if now := wantCode(t, err, keyapi.CodeClock).Now; now == nil || !now.Equal(w.clock.now()) {
			t.Errorf("off by %v: told %v, it is %v", off, now, w.clock.now())
		}
	}
	r := keyapi.RefreshRequest{RefreshToken: p.session.RefreshToken, Time: w.clock.now().Add(-2 * time.Hour)}
	r.Signature = ed25519.Sign(p.device, keyapi.RefreshSigningInput(w.Origin, r))
	r.Time = w.clock.now() // the time is signed
	_, err := w.c.Refresh(t.Context(), r)
	wantCode(t, err, keyapi.CodeUnauthorized)
	if _, err := at(w.clock.now().Add(-time.Hour), p.device); err != nil {
		t.Errorf("off by an hour: %v", err)
	}
}
