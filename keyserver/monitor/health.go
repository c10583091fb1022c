package monitor

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudmls/gateway/keyserver"
)

// readyTime is how long the store may take to answer the question whether the
// server is ready.
const readyTime = 3 * time.Second

// probeAge is for how long an answer of the store counts: strangers may ask as
// often as they like.
const probeAge = 500 * time.Millisecond

// Health answers /healthz and /readyz.
type Health struct {
	store    keyserver.Store
	log      *slog.Logger
	stopping atomic.Bool

	mu   sync.Mutex
	last *probe
}

// probe is one question to the store, shared by all who ask meanwhile.
type probe struct {
	began time.Time
	done  chan struct{}
	err   error // once done is closed
}

// NewHealth watches a store.
func NewHealth(s keyserver.Store, log *slog.Logger) *Health { return &Health{store: s, log: log} }

// Stopping makes /readyz answer 503 from now on, so that a load balancer sends
// new requests elsewhere while those under way are finished.
func (h *Health) Stopping() { h.stopping.Store(true) }

// Alive answers 200 while the process serves at all.
func (h *Health) Alive(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") }

// Ready answers 200 while requests can be carried out: the store answers, and
// the server is not about to stop.
func (h *Health) Ready(w http.ResponseWriter, r *http.Request) {
	if h.stopping.Load() {
		answer(w, http.StatusServiceUnavailable, "stopping")
		return
	}
	p := h.ask()
	late := time.NewTimer(readyTime)
	defer late.Stop()
	select {
	case <-p.done:
		if p.err != nil {
			answer(w, http.StatusServiceUnavailable, "the store does not answer")
			return
		}
		answer(w, http.StatusOK, "ready")
	case <-late.C:
		answer(w, http.StatusServiceUnavailable, "the store does not answer in time")
	case <-r.Context().Done():
	}
}

// ask begins a probe, or joins the one that is under way or just over.
func (h *Health) ask() *probe {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.last; p != nil {
		select {
		case <-p.done:
			if time.Since(p.began) < probeAge {
				return p
			}
		default:
			return p
		}
	}
	p := &probe{began: time.Now(), done: make(chan struct{})}
	h.last = p
	go func() {
		defer close(p.done)
		ctx, cancel := context.WithTimeout(context.Background(), readyTime)
		defer cancel()
		p.err = h.store.View(ctx, func(r keyserver.Reader) error { _, err := r.Mark(); return err })
		if p.err != nil {
			h.log.Warn("the store does not answer", "err", p.err)
		}
	}()
	return p
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// A supervisor that went away has its answer.
	_, _ = w.Write([]byte(text + "\n"))
}
