package monitor_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
	"github.com/cloudmls/gateway/keyserver/monitor"
)

func open(t *testing.T) keyserver.Store {
	t.Helper()
	s, err := boltstore.Open(filepath.Join(t.TempDir(), "keyserver.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func exposed(t *testing.T, m *monitor.Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Expose().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("metrics answered %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// TestMetricsNameNobody: requests are counted by route and status, and neither
// account ids nor made-up paths and methods become time series (F36).
func TestMetricsNameNobody(t *testing.T) {
	m := monitor.New("test")
	ks := keyservertest.NewServer(t, keyservertest.Options{
		Server: keyserver.Options{Store: m.Store(open(t))},
		Wrap:   m.Count,
	})
	if code, _ := get(t, ks.URL+"/v1/server"); code != http.StatusOK {
		t.Fatalf("GET /v1/server: %d", code)
	}
	for range 3 {
		if code, _ := get(t, ks.URL+"/v1/delivery/email/alice%40example%2Eorg?after=0&wait=0"); code != http.StatusUnauthorized {
			t.Fatalf("delivery without a token: %d", code)
		}
	}
	get(t, ks.URL+"/v1/secret-path-of-a-stranger")
	r, err := http.NewRequest("ALICE", ks.URL+"/v1/server", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()

	text := exposed(t, m)
	for _, want := range []string{
		`cloudmls_requests_total{route="GET /v1/server",status="200"} 1`,
		`cloudmls_requests_total{route="GET /v1/delivery/{platform}/{id}",status="401"} 3`,
		`status="404"} 1`,
		`cloudmls_request_seconds_count{route="GET /v1/server"} 1`,
		`cloudmls_build_info{version="test"} 1`,
		`cloudmls_requests_in_flight{kind="wait"} 0`,
		`cloudmls_store_failures_total{kind="update"} 0`,
		`cloudmls_store_transaction_seconds_count{kind="view"}`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	for _, secret := range []string{"alice", "stranger", "ALICE"} {
		if strings.Contains(text, secret) {
			t.Errorf("metrics name %q", secret)
		}
	}
	if strings.Contains(text, `cloudmls_request_seconds_count{route="GET /v1/delivery`) {
		t.Error("long-polls are in the histogram of times")
	}
	if t.Failed() {
		t.Log(text)
	}
}

type brokenStore struct {
	keyserver.Store
	broken atomic.Bool
	hang   chan struct{}
	asked  atomic.Int32
}

func (b *brokenStore) View(ctx context.Context, fn func(keyserver.Reader) error) error {
	b.asked.Add(1)
	if b.hang != nil {
		<-b.hang
	}
	if b.broken.Load() {
		return errors.New("disk on fire")
	}
	return b.Store.View(ctx, fn)
}

// TestFailuresOfTheStore: what the store cannot do is counted, what a rule
// refuses is not.
func TestFailuresOfTheStore(t *testing.T) {
	m := monitor.New("test")
	b := &brokenStore{Store: open(t)}
	s := m.Store(b)
	refusal := errors.New("refused")
	if err := s.Update(t.Context(), func(keyserver.Writer) error { return refusal }); !errors.Is(err, refusal) {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(w keyserver.Writer) error { return w.PutMark([]byte("mark")) }); err != nil {
		t.Fatal(err)
	}
	b.broken.Store(true)
	if err := s.View(t.Context(), func(keyserver.Reader) error { return nil }); err == nil {
		t.Fatal("no error")
	}
	text := exposed(t, m)
	for _, want := range []string{
		`cloudmls_store_failures_total{kind="update"} 0`,
		`cloudmls_store_failures_total{kind="view"} 1`,
		`cloudmls_store_transaction_seconds_count{kind="update"} 2`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestHealth(t *testing.T) {
	b := &brokenStore{Store: open(t)}
	h := monitor.NewHealth(b, slog.New(slog.DiscardHandler))
	ready := func() int {
		w := httptest.NewRecorder()
		h.Ready(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
		return w.Code
	}
	if c := ready(); c != http.StatusOK {
		t.Errorf("a server that works: %d", c)
	}
	b2 := &brokenStore{Store: b.Store}
	b2.broken.Store(true)
	h2 := monitor.NewHealth(b2, slog.New(slog.DiscardHandler))
	w := httptest.NewRecorder()
	h2.Ready(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "fire") {
		t.Errorf("a broken store: %d %s", w.Code, w.Body)
	}
	w = httptest.NewRecorder()
	h2.Alive(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
	if w.Code != http.StatusOK {
		t.Errorf("the process lives: %d", w.Code)
	}
	h.Stopping()
	if c := ready(); c != http.StatusServiceUnavailable {
		t.Errorf("a server that stops: %d", c)
	}
}

type sharedStore struct{ keyserver.Store }

func (sharedStore) Subscribe(keyserver.Subscriber) (stop func()) { return func() {} }

// TestSharedStaysShared: a server must hear what other processes change.
func TestSharedStaysShared(t *testing.T) {
	m := monitor.New("test")
	if _, ok := m.Store(open(t)).(keyserver.Shared); ok {
		t.Error("a store of one process became a shared one")
	}
	if _, ok := m.Store(sharedStore{}).(keyserver.Shared); !ok {
		t.Error("a shared store is none behind the metrics")
	}
}

// TestHealthAsksOnce: however many ask, a store that hangs is asked once.
func TestHealthAsksOnce(t *testing.T) {
	b := &brokenStore{Store: open(t), hang: make(chan struct{})}
	h := monitor.NewHealth(b, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			h.Ready(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/readyz", nil).WithContext(ctx))
		})
	}
	cancel()
	group.Wait()
	if n := b.asked.Load(); n > 1 {
		t.Errorf("the store was asked %d times", n)
	}
	close(b.hang)
}
