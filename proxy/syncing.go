package proxy

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
)

// Waiting after failures of the background loop.
const (
	backOffFirst = time.Second
	backOffLast  = 5 * time.Minute
)

// Limits of syncs that opening a message asks for, so that a mailbox full of
// messages that never open costs neither the key server nor the reader much.
const (
	openSyncTimeout = 5 * time.Second // how long a reader waits
	openSyncBurst   = 20              // in a row
	openSyncEvery   = 500 * time.Millisecond
	openSyncPause   = 30 * time.Second // after a failure
	openSyncRefs    = 4096             // refs remembered as tried
)

// syncer takes handshake messages from the delivery queue: in a loop of its
// own, and when a message cannot be opened yet.
type syncer struct {
	a *account

	mu     sync.Mutex
	tried  map[string]bool // refs that had their sync since the last change
	tokens float64
	last   time.Time
	failed time.Time
}

func newSyncer(a *account) *syncer {
	return &syncer{a: a, tried: make(map[string]bool), tokens: openSyncBurst}
}

// run syncs whenever the delivery queue has something, until ctx ends.
func (s *syncer) run(ctx context.Context) {
	delay := backOffFirst
	for ctx.Err() == nil {
		err := s.sync(ctx)
		if err == nil {
			err = s.a.client.Wait(ctx, s.a.self)
		}
		if err == nil {
			delay = backOffFirst
			continue
		}
		if ctx.Err() != nil {
			return
		}
		s.a.log.Warn("sync with the key server failed", "err", err, "retry_in", delay)
		select {
		case <-ctx.Done():
		case <-time.After(delay/2 + rand.N(delay/2+1)):
		}
		delay = min(2*delay, backOffLast)
	}
}

// sync takes everything from the queue and reports what people have to know.
func (s *syncer) sync(ctx context.Context) error {
	result, err := s.a.client.Sync(ctx, s.a.self)
	if result.Processed > 0 {
		s.mu.Lock()
		clear(s.tried) // what did not open may open now
		s.mu.Unlock()
	}
	s.report(result)
	return err
}

func (s *syncer) report(r cloudmls.SyncResult) {
	for _, p := range r.Problems {
		s.a.log.Warn("handshake message refused", "conversation", p.Conversation, "kind", p.Kind, "seq", p.Seq, "err", p.Err)
	}
	for _, id := range r.Replaced {
		s.a.log.Warn("a conversation's group was replaced by a new one", "conversation", id)
	}
	if r.Processed > 0 {
		s.a.log.Debug("synced", "processed", r.Processed, "joined", len(r.Joined), "changed", len(r.Changed), "removed", len(r.Removed))
	}
}

// syncForOpen syncs once for a message that cannot be opened yet, if it is
// worth it, and reports whether to try again.
func (a *account) syncForOpen(ctx context.Context, ref string) bool {
	s := a.syncing
	if !s.admit(ref, time.Now()) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, openSyncTimeout)
	defer cancel()
	if err := s.sync(ctx); err != nil {
		a.log.Debug("sync for a message failed", "err", err)
		s.mu.Lock()
		s.failed = time.Now()
		s.mu.Unlock()
		return false
	}
	return true
}

// admit bounds the syncs of readers. now is monotonic and decides about work
// only, never about trust.
func (s *syncer) admit(ref string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tried[ref] || !s.failed.IsZero() && now.Sub(s.failed) < openSyncPause {
		return false
	}
	if !s.last.IsZero() {
		s.tokens = min(openSyncBurst, s.tokens+float64(now.Sub(s.last))/float64(openSyncEvery))
	}
	s.last = now
	if s.tokens < 1 {
		return false
	}
	s.tokens--
	if len(s.tried) >= openSyncRefs {
		clear(s.tried)
	}
	s.tried[ref] = true
	return true
}
