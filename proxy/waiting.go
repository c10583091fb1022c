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
	openAsk        = time.Minute            // until it is looked again which may open now
	openAgain      = time.Hour              // until a message is tried again, whatever is known
	openRefs       = 4096                   // messages remembered
)

// waiting knows which messages did not open yet. One of them is tried again when
// the SDK says that another try is worth it (cloudmls.Client.Retryable): its keys
// have come, or it is known that they never will. Its clock decides about work only,
// never about trust.
type waiting struct {
	now   func() time.Time
	ready func(context.Context) ([][32]byte, error) // refs of which that is said

	looking sync.Mutex // held while ready is asked

	mu     sync.Mutex
	tried  map[[32]byte]time.Time // refs that did not open, and when
	looked time.Time              // when ready was last asked
	failed time.Time              // when the key server last failed
}

func newWaiting(ready func(context.Context) ([][32]byte, error)) *waiting {
	return &waiting{now: time.Now, ready: ready, tried: make(map[[32]byte]time.Time)}
}

// admit gives the context for opening a message, or nil if it was tried
// already and nothing has come for it since.
func (w *waiting) admit(ctx context.Context, ref [32]byte) (context.Context, context.CancelFunc) {
	w.mu.Lock()
	_, waits := w.tried[ref]
	stale := waits && w.now().Sub(w.looked) >= openAsk
	w.mu.Unlock()
	if stale {
		w.look(ctx)
	}
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
func (w *waiting) outcome(ref [32]byte, err error) {
	var never *cloudmls.NeverError
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		delete(w.tried, ref)
		w.failed = time.Time{}
	case errors.Is(err, cloudmls.ErrNotYet):
		if _, ok := w.tried[ref]; !ok {
			w.makeRoom()
		}
		w.tried[ref] = w.now()
		var yet *cloudmls.NotYetError
		if err != cloudmls.ErrNotYet && (!errors.As(err, &yet) || yet.Reason == cloudmls.NotYetOffline) {
			w.failed = w.now() // nobody could be asked
		}
	case errors.As(err, &never):
		delete(w.tried, ref)
	default:
		w.failed = w.now()
	}
}

// makeRoom forgets the message that was tried the longest time ago, if there are
// too many; w.mu is held.
func (w *waiting) makeRoom() {
	if len(w.tried) < openRefs {
		return
	}
	var oldest [32]byte
	first := true
	for ref, t := range w.tried {
		if first || t.Before(w.tried[oldest]) {
			oldest, first = ref, false
		}
	}
	delete(w.tried, oldest)
}

// look lets the messages be tried again that may open now. Where that cannot be
// found out, all may.
func (w *waiting) look(ctx context.Context) {
	w.looking.Lock()
	defer w.looking.Unlock()
	w.mu.Lock()
	none := len(w.tried) == 0
	w.looked = w.now()
	w.mu.Unlock()
	if none {
		return
	}
	refs, err := w.ready(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil {
			clear(w.tried)
		}
		return
	}
	for _, ref := range refs {
		delete(w.tried, ref)
	}
}
