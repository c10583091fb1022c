package proxy

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
)

// Waiting after failures of the background loop.
const (
	backOffFirst = time.Second
	backOffLast  = 5 * time.Minute
)

// syncer takes handshake messages from the delivery queue in a loop.
type syncer struct{ a *account }

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
		s.a.log.Warn("sync with the key server failed", "why", sentence(err), "retry_in", delay)
		s.a.log.Debug("cause of the failed sync", "err", err)
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
	if err == nil {
		s.a.waiting.forget() // what did not open may open now, by a sibling's doing as well
	}
	s.report(result)
	return err
}

func (s *syncer) report(r cloudmls.SyncResult) {
	for _, p := range r.Problems {
		s.a.log.Warn("handshake message refused", "conversation", p.Conversation, "kind", p.Kind, "seq", p.Seq)
		s.a.log.Debug("cause of the refused handshake message", "seq", p.Seq, "err", p.Err)
	}
	for _, id := range r.Replaced {
		s.a.log.Warn("a conversation's group was replaced by a new one", "conversation", id)
	}
	if r.Processed > 0 {
		s.a.log.Debug("synced", "processed", r.Processed, "joined", len(r.Joined), "changed", len(r.Changed), "removed", len(r.Removed))
	}
}
