package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
)

// Limits of waiting for keys while a reader waits for a message, so that a
// mailbox full of messages that do not open costs neither the reader nor the
// key server much.
const (
	openPatience   = 10 * time.Second       // for one message
	openImpatience = 500 * time.Millisecond // while the key server fails
	openFailing    = 30 * time.Second       // how long a failure counts
	openAgain      = time.Minute            // until a message is asked for again
	openRefs       = 4096                   // messages remembered
)

// waiting knows which messages did not open yet. Its clock decides about work
// only, never about trust.
type waiting struct {
	now func() time.Time

	mu     sync.Mutex
	tried  map[string]time.Time // refs that did not open, and when
	failed time.Time            // when the key server last failed
}

func newWaiting() *waiting {
	return &waiting{now: time.Now, tried: make(map[string]time.Time)}
}

// admit gives the context for opening a message, or nil if it was tried
// already and nothing has come since.
func (w *waiting) admit(ctx context.Context, ref string) (context.Context, context.CancelFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if t, ok := w.tried[ref]; ok && now.Sub(t) < openAgain {
		return nil, func() {}
	}
	patience := openPatience
	if !w.failed.IsZero() && now.Sub(w.failed) < openFailing {
		patience = openImpatience
	}
	return context.WithTimeout(ctx, patience)
}

// outcome tells how it went.
func (w *waiting) outcome(ref string, err error) {
	var never *cloudmls.NeverError
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		delete(w.tried, ref)
		w.failed = time.Time{}
	case errors.Is(err, cloudmls.ErrNotYet):
		if len(w.tried) >= openRefs {
			clear(w.tried)
		}
		w.tried[ref] = w.now()
		var yet *cloudmls.NotYetError
		if err != cloudmls.ErrNotYet && (!errors.As(err, &yet) || yet.Reason == cloudmls.NotYetOffline) {
			w.failed = w.now() // nobody could be asked
		}
	case !errors.As(err, &never):
		w.failed = w.now()
	}
}

// forget lets every message be tried again: something has come.
func (w *waiting) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.tried)
}
