package keyclient_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

func clientOf(t *testing.T, h http.HandlerFunc) *keyclient.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := keyclient.New(keyclient.Options{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var alice = keyapi.Account{Platform: "email", ID: "alice@example.org"}

// calls is every method of the client.
func calls(ctx context.Context, c *keyclient.Client) map[string]func() error {
	second := func(_ any, err error) error { return err }
	return map[string]func() error{
		"Server":         func() error { return second(c.Server(ctx)) },
		"Params":         func() error { return second(c.Params(ctx, keyapi.ParamsRequest{})) },
		"Register":       func() error { return second(c.Register(ctx, keyapi.RegisterRequest{})) },
		"Login":          func() error { return second(c.Login(ctx, keyapi.LoginRequest{})) },
		"Refresh":        func() error { return second(c.Refresh(ctx, keyapi.RefreshRequest{})) },
		"Logout":         func() error { return c.Logout(ctx, "t") },
		"Recover":        func() error { return second(c.Recover(ctx, keyapi.RecoverRequest{})) },
		"ChangePassword": func() error { return second(c.ChangePassword(ctx, "t", keyapi.PasswordRequest{})) },
		"Sessions":       func() error { return second(c.Sessions(ctx, "t")) },
		"EndSession":     func() error { return c.EndSession(ctx, "t", make([]byte, 16)) },
		"Verify":         func() error { return second(c.Verify(ctx, "t", keyapi.VerifyRequest{})) },
		"AddAccount": func() error {
			return second(c.AddAccount(ctx, "t", keyapi.AccountRequest{Account: alice, IdentityKey: make([]byte, 32)}))
		},
		"Accounts":          func() error { return second(c.Accounts(ctx, "t")) },
		"UploadKeyPackages": func() error { return second(c.UploadKeyPackages(ctx, "t", alice, keyapi.KeyPackageUpload{})) },
		"KeyPackageCount":   func() error { return second(c.KeyPackageCount(ctx, "t", alice)) },
		"ClaimKeyPackage":   func() error { return second(c.ClaimKeyPackage(ctx, "t", alice)) },
		"Reachable":         func() error { return second(c.Reachable(ctx, "t", alice)) },
		"ObjectIndex":       func() error { return second(c.ObjectIndex(ctx, "t")) },
		"ObjectIndexOf":     func() error { return second(c.ObjectIndexOf(ctx, "t", keyapi.Buckets{0x40})) },
		"ObjectUnless": func() error {
			return second(c.ObjectUnless(ctx, "t", keyapi.ObjectID{1}, [32]byte{2}))
		},
		"Objects": func() error {
			return second(c.Objects(ctx, "t", []keyapi.ObjectID{{1}}))
		},
		"Tx":         func() error { return second(c.Tx(ctx, "t", keyapi.Tx{})) },
		"Instance":   func() error { return second(c.Instance(ctx, "t", make([]byte, 16))) },
		"Deliveries": func() error { return second(c.Deliveries(ctx, "t", keyapi.DeliveryQuery{Account: alice})) },
		"Ack":        func() error { return c.Ack(ctx, "t", alice, 1) },
	}
}

// F9 and seed 0.2: an answer that is not the key server's own word is
// ErrUnavailable and never a problem, least of all "does not exist".
func TestFlaw09_GarbageIsNeverAStatement(t *testing.T) {
	answer := func(status int, kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	const problemJSON = "application/problem+json"
	servers := map[string]http.HandlerFunc{
		"proxy's 404 page":          answer(404, "text/html", "<html>not found</html>"),
		"404 as plain JSON":         answer(404, "application/json", `{"status":404,"code":"no_account"}`),
		"404 without a body":        answer(404, problemJSON, ""),
		"404 without a code":        answer(404, problemJSON, `{"status":404}`),
		"404 with an unknown code":  answer(404, problemJSON, `{"status":404,"code":"gone"}`),
		"code of another status":    answer(500, problemJSON, `{"status":500,"code":"no_account"}`),
		"status of another answer":  answer(502, problemJSON, `{"status":404,"code":"no_account"}`),
		"problem cut short":         answer(404, problemJSON, `{"status":404,"code":"no_acc`),
		"500 page":                  answer(500, "text/html", "<html>"),
		"captive portal":            answer(200, "text/html", "<html>log in</html>"),
		"HTML called JSON":          answer(200, "application/json", "<html>"),
		"empty object":              answer(200, "application/json", "{}"),
		"empty list":                answer(200, "application/json", "[]"),
		"null":                      answer(200, "application/json", "null"),
		"JSON cut short":            answer(200, "application/json", `{"account":`),
		"two documents":             answer(200, "application/json", `{} {}`),
		"not about what was asked":  answer(200, "application/json", `{"account":{"platform":"email","id":"bob"},"has_account":false}`),
		"no word about the account": answer(200, "application/json", `{"account":{"platform":"email","id":"alice@example.org"}}`),
		"problem with status 200":   answer(200, problemJSON, `{"status":200,"code":"no_account"}`),
		"redirect":                  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"204 where a body is due":   answer(205, "", ""),
		"connection cut": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"applied":true`))
			panic(http.ErrAbortHandler)
		},
	}
	for name, handler := range servers {
		c := clientOf(t, handler)
		for method, call := range calls(t.Context(), c) {
			err := call()
			var p *keyapi.Problem
			if err == nil || errors.As(err, &p) || !errors.Is(err, keyclient.ErrUnavailable) {
				t.Errorf("%s: %s: %v", name, method, err)
			}
			if err != nil && strings.Contains(err.Error(), "alice") {
				t.Errorf("%s: %s: the error names the account: %v", name, method, err)
			}
		}
	}
}

func TestDeadServerIsUnavailable(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	c, err := keyclient.New(keyclient.Options{URL: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	for method, call := range calls(t.Context(), c) {
		err := call()
		var transport *keyclient.TransportError
		if !errors.Is(err, keyclient.ErrUnavailable) || !errors.As(err, &transport) || strings.Contains(err.Error(), "alice") {
			t.Errorf("%s: %v", method, err)
		}
	}
}

func TestProblemsOfTheServerComeThrough(t *testing.T) {
	c := clientOf(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(404)
		_ = json.NewEncoder(w).Encode(keyapi.Problem{Status: 404, Code: keyapi.CodeNoAccount, Detail: "nobody"})
	})
	for method, call := range calls(t.Context(), c) {
		if err := call(); !keyclient.IsCode(err, keyapi.CodeNoAccount) || errors.Is(err, keyclient.ErrUnavailable) {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// Repetition is the caller's decision: each call is one request, whatever
// happens to it.
func TestNothingIsSentTwice(t *testing.T) {
	var requests atomic.Int32
	c := clientOf(t, func(http.ResponseWriter, *http.Request) {
		requests.Add(1)
		panic(http.ErrAbortHandler)
	})
	if _, err := c.Tx(t.Context(), "t", keyapi.Tx{}); !errors.Is(err, keyclient.ErrUnavailable) {
		t.Error(err)
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestTokenGoesWhereItBelongs(t *testing.T) {
	c := clientOf(t, func(w http.ResponseWriter, r *http.Request) {
		got, open := r.Header.Get("Authorization"), r.URL.Path == "/v1/server" || strings.HasPrefix(r.URL.Path, "/v1/auth/")
		withToken := r.URL.Path == "/v1/auth/logout" || r.URL.Path == "/v1/auth/password"
		if !withToken && open != (got == "") || withToken && got == "" || got != "" && got != "Bearer t" {
			t.Errorf("%s: Authorization %q", r.URL.Path, got)
		}
		w.WriteHeader(500)
	})
	for _, call := range calls(t.Context(), c) {
		if call() == nil {
			t.Error("500 was success")
		}
	}
}

func TestCallsHaveATimeout(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer s.Close()
	defer close(release)
	c, err := keyclient.New(keyclient.Options{URL: s.URL, Timeout: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Server(t.Context()); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, keyclient.ErrUnavailable) {
		t.Error(err)
	}
}

func TestURLsThatAreRefused(t *testing.T) {
	for _, u := range []string{
		"", "keys.example.org", "http://keys.example.org", "http://192.0.2.1:80", "ftp://localhost", "https://u:p@keys.example.org",
		"https://keys.example.org/?x=1", "https://keys.example.org/#x", "https://", "http://localhost.example.org", ":",
	} {
		if _, err := keyclient.New(keyclient.Options{URL: u}); err == nil {
			t.Errorf("%q was accepted", u)
		}
	}
	for _, u := range []string{"https://keys.example.org", "https://example.org/keys/", "http://127.0.0.1:1", "http://[::1]:1", "http://localhost"} {
		if _, err := keyclient.New(keyclient.Options{URL: u}); err != nil {
			t.Errorf("%q: %v", u, err)
		}
	}
}
