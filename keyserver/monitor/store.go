package monitor

import (
	"context"
	"errors"
	"time"

	"github.com/cloudmls/gateway/keyserver"
)

// Store times the transactions of a store. What it returns implements
// keyserver.Shared if s does.
func (m *Metrics) Store(s keyserver.Store) keyserver.Store {
	timed := &timedStore{Store: s, metrics: m}
	if shared, ok := s.(keyserver.Shared); ok {
		return struct {
			*timedStore
			keyserver.Shared
		}{timed, shared}
	}
	return timed
}

type timedStore struct {
	keyserver.Store
	metrics *Metrics
}

func (t *timedStore) View(ctx context.Context, fn func(keyserver.Reader) error) error {
	var refused error
	start := time.Now()
	err := t.Store.View(ctx, func(r keyserver.Reader) error {
		refused = fn(r)
		return refused
	})
	t.metrics.transaction(ctx, "view", time.Since(start), err, refused)
	return err
}

func (t *timedStore) Update(ctx context.Context, fn func(keyserver.Writer) error) error {
	var refused error
	start := time.Now()
	err := t.Store.Update(ctx, func(w keyserver.Writer) error {
		refused = fn(w)
		return refused
	})
	t.metrics.transaction(ctx, "update", time.Since(start), err, refused)
	return err
}

// transaction counts a failure unless the transaction's own function asked for
// it or the caller went away.
func (m *Metrics) transaction(ctx context.Context, kind string, took time.Duration, err, refused error) {
	m.store.WithLabelValues(kind).Observe(took.Seconds())
	if err != nil && refused == nil && ctx.Err() == nil && !errors.Is(err, context.Canceled) {
		m.failures.WithLabelValues(kind).Inc()
	}
}
