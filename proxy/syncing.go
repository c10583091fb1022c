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
	defer s.a.health.loop(false, time.Time{})
	delay := backOffFirst
	for ctx.Err() == nil {
		s.a.health.loop(true, time.Time{})
		_, err := s.sync(ctx)
		if err == nil {
			if err = s.a.client.Wait(ctx, s.a.self); err != nil && ctx.Err() == nil {
				s.a.health.syncResult(err)
			}
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
		pause := delay/2 + rand.N(delay/2+1)
		s.a.health.loop(true, s.a.now().Add(pause))
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		delay = min(2*delay, backOffLast)
	}
}

// sync takes everything from the queue and reports what people have to know.
func (s *syncer) sync(ctx context.Context) (cloudmls.SyncResult, error) {
	result, err := s.a.client.Sync(ctx, s.a.self)
	if ctx.Err() == nil {
		s.a.health.syncResult(err)
	}
	if err == nil {
		s.a.waiting.look(ctx) // what did not open may open now, by a sibling's doing as well
	}
	s.report(result)
	return result, err
}

func (s *syncer) report(r cloudmls.SyncResult) {
	for _, p := range r.Problems {
		s.a.log.Warn("handshake message refused", "conversation", p.Conversation, "kind", p.Kind, "seq", p.Seq)
		s.a.log.Debug("cause of the refused handshake message", "seq", p.Seq, "err", p.Err)
	}
	for _, n := range r.Notices {
		if n.Kind == cloudmls.NoticeRotated {
			continue // below
		}
		s.a.log.Warn("a conversation's group", "conversation", n.Conversation, "kind", n.Kind)
		s.a.log.Debug("what was told of it", "conversation", n.Conversation, "why", oneLine(n.Text))
	}
	for _, a := range r.Rotated {
		s.a.log.Warn("somebody's identity key was replaced, by a signed statement; compare the new one", "platform", a.Platform)
	}
	if r.Processed > 0 {
		s.a.log.Debug("synced", "processed", r.Processed, "joined", len(r.Joined), "changed", len(r.Changed), "removed", len(r.Removed))
	}
}
