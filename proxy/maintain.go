package proxy

import (
	"context"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
)

// How often the SDK does what is due without anybody writing, and when first:
// not at once, when the loops have the key server busy.
const (
	maintainFirst = time.Minute
	maintainEvery = time.Hour
)

// maintain keeps keys fresh in the background until ctx ends: KeyPackages, the
// leaves of silent groups, a rotation that was cut off.
func (g *Gateway) maintain(ctx context.Context) error {
	next := time.NewTimer(maintainFirst)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		for _, c := range g.clients() {
			if err := c.Maintain(ctx); err != nil && ctx.Err() == nil {
				g.o.Logger.Warn("keys were not maintained; it is tried again", "why", sentence(err), "in", maintainEvery)
				g.o.Logger.Debug("cause of the failed maintenance", "err", err)
			}
		}
		next.Reset(maintainEvery)
	}
}

// clients lists those that the accounts use, each once.
func (g *Gateway) clients() []*cloudmls.Client {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []*cloudmls.Client
	for _, p := range g.places {
		if c := p.now.Load().syncing.a.client; !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	return list
}
