package pgstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cloudmls/gateway/keyserver"
)

// Store implements keyserver.Store and keyserver.Shared.
type Store struct {
	pool    *pgxpool.Pool
	log     *slog.Logger
	options Options
	news    *news
	// What records mean that each request reads.
	sessions memo[keyserver.Session]
	accounts memo[keyserver.Account]
	talks    memo[keyserver.Conversation]

	updates *crowd
	views   *crowd
	// quietUntil is when Expire looks again, in seconds since 1970, and expiring
	// that somebody does.
	quietUntil atomic.Int64
	expiring   atomic.Bool
	trips      atomic.Int64 // round trips of transactions
	statements atomic.Int64 // that went out with them
}

var (
	_ keyserver.Store  = (*Store)(nil)
	_ keyserver.Shared = (*Store)(nil)
)

// Open connects, brings the tables to this program's version and starts to
// listen. ctx bounds this call only. The error of a database that does not
// answer matches keyserver.ErrUnavailable.
func Open(ctx context.Context, o Options) (*Store, error) {
	config, err := o.config()
	if err != nil {
		return nil, fmt.Errorf("open key server store: %w", err)
	}
	s := &Store{log: o.Logger, options: o}
	s.updates, s.views = newCrowds(s)
	listening := config.ConnConfig.Copy()
	config.AfterConnect = s.suggestPlans
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("open key server store: %w", outcome(ctx, err))
	}
	s.pool = pool
	if err := s.prepare(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open key server store: %w", outcome(ctx, err))
	}
	s.news = startNews(s, listening)
	return s, nil
}

// Close waits for transactions under way and ends the listening.
func (s *Store) Close() error {
	s.news.stop()
	s.pool.Close()
	return nil
}

// prepare checks what the promises of this package rest on, and migrates.
func (s *Store) prepare(ctx context.Context) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	for name, why := range map[string]string{
		"fsync":              "a power cut would destroy the database",
		"full_page_writes":   "a power cut would destroy the database",
		"synchronous_commit": "what was acknowledged could be lost",
	} {
		value, err := setting(ctx, conn.Conn(), name)
		if err != nil {
			return err
		}
		if value == "off" {
			return fmt.Errorf("the database has %s = off: %s; set it to on", name, why)
		}
	}
	return s.migrate(ctx, conn.Conn())
}

// setting reads a setting; empty where the database has none of this name.
func setting(ctx context.Context, conn *pgx.Conn, name string) (value string, err error) {
	err = conn.QueryRow(ctx, "SELECT coalesce(max(setting), '') FROM pg_catalog.pg_settings WHERE name = $1", name).Scan(&value)
	return value, err
}

// View runs fn on one snapshot.
func (s *Store) View(ctx context.Context, fn func(keyserver.Reader) error) error {
	return s.run(ctx, s.views, func(t *tx) error { return fn(t) })
}

// Update runs fn in one transaction. It is run again when the database says
// that this would help, and a bounded number of times.
func (s *Store) Update(ctx context.Context, fn func(keyserver.Writer) error) error {
	return s.run(ctx, s.updates, func(t *tx) error { return fn(t) })
}

// Bounds of starting over.
const (
	attempts     = 60
	firstPause   = time.Millisecond
	longestPause = 100 * time.Millisecond
	inCompany    = 3 // attempts, before it is tried alone
)

// run carries out a transaction until it succeeds or there is no point in
// trying.
func (s *Store) run(ctx context.Context, c *crowd, fn func(*tx) error) error {
	pause := firstPause
	alone := false
	for n := 1; ; n++ {
		t := s.newTx(ctx, c, alone)
		err := t.carryOut(func() error { return fn(t) })
		again := t.again && (t.writing || !t.told) // nobody was told anything
		switch {
		case err == nil:
			return nil
		case t.company && !worthAnotherTry(err) && (!again || ctx.Err() != nil): // perhaps not its own fault
			return fmt.Errorf("%w: %w", keyserver.ErrUnavailable, errors.Join(ctx.Err(), err))
		case t.company && !worthAnotherTry(err):
			alone = true
			continue
		case !again || !worthAnotherTry(err) || n == attempts || ctx.Err() != nil:
			return outcome(ctx, err)
		}
		if lost(err) && !isServerError(err, "40001", "40P01", "23505") {
			s.pool.Reset() // the other idle connections are as dead
		}
		s.log.Debug("transaction starts over", "attempt", n, "error", err)
		select {
		case <-time.After(jitter(pause)):
		case <-ctx.Done():
			return ctx.Err()
		}
		pause = min(2*pause, longestPause)
		alone = alone || n >= inCompany
	}
}
