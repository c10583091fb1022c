package proxy

import (
	"context"
	"sync"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/smtpd"
)

const (
	// aheadTimeout bounds a Sync ahead; without it the message has its own.
	aheadTimeout = 10 * time.Second
	// aheadAge is how long after MAIL such a Sync counts. A mail client that
	// takes longer to send its message, or a computer that slept, waits for
	// another one.
	aheadAge = 30 * time.Second
)

// ahead is the Sync for a message that the mail client is still sending. It
// begins after the submission did, so it is as good as one that begins when the
// message has arrived: what others change at the key server from MAIL on, they
// change at the same time as this message is sent.
type ahead struct {
	client *cloudmls.Client // moments of another one mean nothing
	began  cloudmls.Moment
	at     time.Time // of the clock on the wall
	done   chan struct{}
}

var _ smtpd.Preparer = smtpAccount{}

// Prepare implements smtpd.Preparer. An account has one Sync ahead at a time: a
// mail client that says MAIL a thousand times costs the key server little.
func (a smtpAccount) Prepare(ctx context.Context) any {
	if a.gone.Load() || !a.syncsAhead.CompareAndSwap(false, true) {
		return nil
	}
	now := a.now.Load()
	h := &ahead{client: now.client, began: now.client.Moment(), at: time.Now().Round(0), done: make(chan struct{})}
	begun := a.ahead.start(func() {
		defer close(h.done)
		defer a.syncsAhead.Store(false)
		ctx, cancel := context.WithTimeout(ctx, aheadTimeout)
		defer cancel()
		if _, err := now.syncing.sync(ctx); err != nil {
			now.log.Debug("sync ahead of a message", "err", err) // seal tries again
		}
	})
	if !begun {
		return nil
	}
	return h
}

// errands are short pieces of work that sessions begin. Its zero value is ready.
type errands struct {
	mu      sync.Mutex
	stopped bool
	running sync.WaitGroup
}

// start reports whether it runs f, which it does not once stop was called.
func (e *errands) start(f func()) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.stopped {
		e.running.Go(f)
	}
	return !e.stopped
}

// stop waits for what runs; the sessions have ended, and so have its contexts.
func (e *errands) stop() {
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	e.running.Wait()
}

// syncFor brings the account up to date for a message and gives the moment
// since which it is. That the key server does not answer is dealt with where its
// word is needed.
func (a *account) syncFor(ctx context.Context, e smtpd.Envelope) cloudmls.Moment {
	since := a.workBegan(ctx, e)
	if !a.client.SyncedSince(a.self, since) {
		if _, err := a.syncing.sync(ctx); err != nil {
			a.log.Debug("sync before sending", "err", err)
		}
	}
	return since
}

// workBegan gives the moment of MAIL, after the Sync of then has ended, where that
// is not long ago; else the present one.
func (a *account) workBegan(ctx context.Context, e smtpd.Envelope) cloudmls.Moment {
	since := a.client.Moment()
	if h, ok := e.Prepared.(*ahead); ok && h != nil && h.client == a.client && a.isRecent(h.at) {
		select {
		case <-h.done:
		case <-ctx.Done():
		}
		if a.isRecent(h.at) {
			since = h.began
		}
	}
	return since
}

func (a *account) isRecent(t time.Time) bool {
	age := time.Now().Round(0).Sub(t)
	return age >= 0 && age < aheadAge
}
