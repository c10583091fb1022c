package state_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

var _ state.Server = (*keyclient.Client)(nil)

var (
	mail    = keyapi.Account{Platform: "email", ID: "alice@example.org"}
	conv    = state.Key{Type: state.TypeConversation, Name: "c", Account: mail}
	sending = state.Key{Type: state.TypeSender, Name: "i", Account: mail}
)

func vaultKey(fill byte) []byte { return []byte(strings.Repeat(string(rune('a'+fill)), 32)) }

func config(ks *keyservertest.Server, device byte) state.Config {
	return state.Config{Server: ks.Client(), Local: state.NewMemory(), VaultKey: vaultKey(device), Origin: ks.Origin, DeviceName: fmt.Sprint("device ", device)}
}

// The whole life of a user at a real key server: two devices, all kinds of
// changes, tokens that end, a restart, a sign-out.
func TestAtTheKeyServer(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64 // seconds ahead
	now := func() time.Time { return time.Now().Add(time.Duration(clock.Load()) * time.Second) }
	ks := keyservertest.NewServer(t, keyservertest.Options{Server: keyserver.Options{Now: now}})
	ctx := t.Context()
	ca, cb := config(ks, 0), config(ks, 1)
	ca.Now, cb.Now = now, now
	a, code, err := state.Register(ctx, "alice", "a good password", ca)
	if err != nil || len(code) != 44 {
		t.Fatalf("register: %q, %v", code, err)
	}
	b, err := state.Open(ctx, "Alice", "a good password", cb)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := state.Open(ctx, "alice", "a bad password", config(ks, 2)); !errors.Is(err, state.ErrCredentials) {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := state.Open(ctx, "mallory", "a good password", config(ks, 2)); !errors.Is(err, state.ErrCredentials) {
		t.Errorf("unknown user: %v", err)
	}
	if _, _, err := state.Register(ctx, "alice", "other", config(ks, 2)); !isCode(err, keyapi.CodeTaken) {
		t.Errorf("taken name: %v", err)
	}
	appendX(t, a, conv)
	appendX(t, b, conv)
	clock.Add(3600) // access tokens have ended
	appendX(t, a, conv)
	for range 3 {
		swapX(t, a)
		swapX(t, b)
	}
	if err := b.RotateRoot(ctx, nil); err != nil {
		t.Fatal(err)
	}
	appendX(t, a, conv)
	a, err = state.Resume(ctx, ca)
	if err != nil {
		t.Fatal(err)
	}
	clock.Add(3600)
	check(t, a, conv, "xxxx")
	check(t, a, sending, "xxxxxx")
	if err := b.SignOut(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	check(t, a, conv, "xxxx")
}

// A wrong clock locks nobody out: the device signs once more with the server's
// time. A server that goes on asking is not obeyed.
func TestRefreshWithAWrongClock(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-400 * 24 * time.Hour, -2 * time.Hour, 2 * time.Hour, 400 * 24 * time.Hour} {
		ks := keyservertest.NewServer(t, keyservertest.Options{})
		c := config(ks, 0)
		if _, _, err := state.Register(t.Context(), "alice", "a good password", c); err != nil {
			t.Fatal(err)
		}
		c.Now = func() time.Time { return time.Now().Add(off) }
		s, err := state.Resume(t.Context(), c) // has no access token
		if err != nil {
			t.Fatalf("off by %v: %v", off, err)
		}
		appendX(t, s, conv)
		asked := &askingTime{Server: ks.Client()}
		c.Server = asked
		if s, err = state.Resume(t.Context(), c); err == nil {
			_, err = s.Refresh(t.Context())
		}
		if !isCode(err, keyapi.CodeClock) || len(asked.times) != 2 || !asked.times[1].Equal(asked.now) {
			t.Errorf("off by %v: signed for %v: %v", off, asked.times, err)
		}
	}
}

// askingTime is a key server that wants another time each time.
type askingTime struct {
	state.Server
	times []time.Time
	now   time.Time // that it told first
}

func (a *askingTime) Refresh(_ context.Context, r keyapi.RefreshRequest) (keyapi.Session, error) {
	a.times = append(a.times, r.Time)
	now := time.Date(2030, 1, len(a.times), 0, 0, 0, 0, time.UTC)
	if a.now.IsZero() {
		a.now = now
	}
	return keyapi.Session{}, &keyapi.Problem{Status: 400, Code: keyapi.CodeClock, Now: &now}
}

func isCode(err error, code string) bool {
	var p *keyapi.Problem
	return errors.As(err, &p) && p.Code == code
}

func appendX(t *testing.T, s *state.Store, k state.Key) {
	t.Helper()
	err := s.Update(t.Context(), func(tx *state.Tx) error {
		old, err := tx.Get(k)
		if err != nil && !errors.Is(err, state.ErrNotFound) {
			return err
		}
		return tx.Put(k, append(old, 'x'))
	})
	if err != nil {
		t.Fatalf("update: %v", err)
	}
}

func swapX(t *testing.T, s *state.Store) {
	t.Helper()
	if err := s.Swap(t.Context(), sending, func(old []byte) ([]byte, error) { return append(old, 'x'), nil }); err != nil {
		t.Fatalf("swap: %v", err)
	}
}

func check(t *testing.T, s *state.Store, k state.Key, want string) {
	t.Helper()
	if got, err := s.Get(t.Context(), k); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

// Answers of the real server are cut off after it did its work, for every
// transaction once. Nothing is lost and nothing happens twice.
func TestFlaw28_LostAnswersOfTheKeyServer(t *testing.T) {
	t.Parallel()
	var n, lost atomic.Int64
	ks := keyservertest.NewServer(t, keyservertest.Options{Wrap: func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/tx" && n.Add(1)%2 == 1 {
				lost.Add(1)
				h.ServeHTTP(discard{http.Header{}}, r)
				panic(http.ErrAbortHandler)
			}
			h.ServeHTTP(w, r)
		})
	}})
	a, _, err := state.Register(t.Context(), "alice", "a good password", config(ks, 0))
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		appendX(t, a, conv)
		swapX(t, a)
	}
	check(t, a, conv, "xxxxxxxxxx")
	check(t, a, sending, "xxxxxxxxxx")
	if lost.Load() < 20 {
		t.Errorf("only %d answers were lost", lost.Load())
	}
}

type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

func TestConcurrentDevicesAtTheKeyServer(t *testing.T) {
	t.Parallel()
	ks := keyservertest.NewServer(t, keyservertest.Options{})
	a, _, err := state.Register(t.Context(), "alice", "a good password", config(ks, 0))
	if err != nil {
		t.Fatal(err)
	}
	b, err := state.Open(t.Context(), "alice", "a good password", config(ks, 1))
	if err != nil {
		t.Fatal(err)
	}
	const each = 10
	var wg sync.WaitGroup
	for _, s := range []*state.Store{a, b} {
		wg.Go(func() {
			for range each {
				appendX(t, s, conv)
			}
		})
		wg.Go(func() {
			for range each {
				swapX(t, s)
			}
		})
	}
	wg.Wait()
	if _, err := a.Refresh(context.WithoutCancel(t.Context())); err != nil {
		t.Fatal(err)
	}
	check(t, a, conv, strings.Repeat("x", 2*each))
	check(t, a, sending, strings.Repeat("x", 2*each))
}
