package smtpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/smtpd/outbox"
)

// DefaultMaxAge is how long a transaction is tried: the time that RFC 5321
// section 4.5.4.1 names.
const DefaultMaxAge = 5 * 24 * time.Hour

// OutboxOptions configures an [Outbox].
type OutboxOptions struct {
	// Dir holds the queue; it is created with mode 0700. One process at a time
	// may use it. Required.
	Dir string
	// Account returns the account of a user name, without a password: the
	// transaction was accepted under it before. An error delays the
	// transaction. Required.
	Account func(ctx context.Context, username string) (Account, error)
	// Bounce is called when a transaction failed for good, before it leaves
	// the outbox; an error keeps it there and Bounce is called again later.
	// err holds the provider's words. Required.
	Bounce func(ctx context.Context, username string, t Transaction, err error) error
	// MaxAge is how long a transaction is tried; 0 means DefaultMaxAge.
	MaxAge time.Duration
	// Backoff says how long to wait after the attempt with that number, from
	// 1; nil means 5 s, doubling up to an hour.
	Backoff func(attempt int) time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Timeouts towards the provider; zero fields mean their defaults.
	Timeouts Timeouts
	// Logger may be nil.
	Logger *slog.Logger
}

// Outbox keeps sealed transactions that still have to be sent, on disk, and
// retries them. It survives a crash at any point; a crash between the
// provider's 250 and our record of it sends a transaction again, with the same
// octets and Resent set. Its methods are safe for concurrent use.
type Outbox struct {
	o     OutboxOptions
	q     *outbox.Queue
	notes attemptNotes
	// settled are IDs that the provider took, or of whose failure the sender was
	// told, while the queue still has them.
	settled sync.Map
}

// OpenOutbox opens or creates the queue in o.Dir.
func OpenOutbox(o OutboxOptions) (*Outbox, error) {
	if o.Dir == "" || o.Account == nil || o.Bounce == nil {
		return nil, errors.New("open outbox: Dir, Account and Bounce are required")
	}
	if o.MaxAge <= 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.Backoff == nil {
		o.Backoff = backoff
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Timeouts = o.Timeouts.withDefaults()
	q, warnings, err := outbox.Open(o.Dir)
	if err != nil {
		return nil, err
	}
	for _, w := range warnings {
		o.Logger.Error("outbox entry cannot be read", "err", w)
	}
	return &Outbox{o: o, q: q}, nil
}

// backoff doubles from 5 s, so that a moment without network is soon over, up
// to an hour.
func backoff(attempt int) time.Duration {
	const first, longest = 5 * time.Second, time.Hour
	if attempt > 10 {
		return longest
	}
	return min(first<<max(attempt-1, 0), longest)
}

// Len returns how many transactions wait.
func (b *Outbox) Len() int { return b.q.Len() }

// Close frees the queue. Run must have returned.
func (b *Outbox) Close() error { return b.q.Close() }

// attempt tries one entry and records what came of it. Its error is one of the
// queue's files.
func (b *Outbox) attempt(ctx context.Context, e outbox.Entry) error {
	if _, settled := b.settled.Load(e.ID); settled {
		return b.finish(e) // only the record of it is missing
	}
	if err := b.q.Start(&e); err != nil {
		return err
	}
	crashpoint.Here("outbox-attempt-started")
	t := b.transaction(e)
	account, err := b.o.Account(ctx, e.Username)
	if err == nil {
		r := &relay{upstream: account.Upstream, t: b.o.Timeouts}
		_, err = r.send(ctx, t)
		r.close()
	}
	if err == nil {
		crashpoint.Here("outbox-accepted")
		b.settled.Store(e.ID, true)
		account.Sent(context.WithoutCancel(ctx), t)
		b.notes.drop(e.ID)
		return b.finish(e)
	}
	return b.failed(ctx, e, t, err)
}

// finish takes an entry out of the queue that the provider took, or whose fate
// the sender was told.
func (b *Outbox) finish(e outbox.Entry) error {
	err := b.q.Remove(e)
	if err == nil {
		b.settled.Delete(e.ID)
	}
	return err
}

// failed decides between another attempt and a report to the sender.
func (b *Outbox) failed(ctx context.Context, e outbox.Entry, t Transaction, err error) error {
	b.notes.put(e.ID, err, b.o.Now())
	var link *linkError
	unknown := errors.As(err, &link) && link.unknown
	b.o.Logger.Info("outbox attempt failed", "transaction", e.ID, "attempt", e.Attempts, "unconfirmed", unknown)
	b.o.Logger.Debug("cause of the failed attempt", "transaction", e.ID, "err", err)
	lost := permanent(err) || errors.Is(err, outbox.ErrAltered) || b.o.Now().Sub(e.Created) > b.o.MaxAge
	if !lost || ctx.Err() != nil {
		return b.later(e, unknown)
	}
	if bounceErr := b.o.Bounce(ctx, e.Username, t, bounceReason(err)); bounceErr != nil {
		b.o.Logger.Error("failure not reported to the sender", "transaction", e.ID, "err", bounceErr)
		return b.later(e, unknown)
	}
	b.settled.Store(e.ID, true)
	b.notes.drop(e.ID)
	return b.finish(e)
}

// bounceReason returns an error whose text a person can read.
func bounceReason(err error) error {
	if errors.Is(err, outbox.ErrAltered) {
		return &Refusal{Code: 554, Enhanced: [3]int{5, 3, 0}, Text: "the stored message was damaged", Err: err}
	}
	said, internal := smtpError(err, "")
	if internal {
		return &Refusal{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "the message could not be sent", Err: err}
	}
	return &Refusal{Code: said.Code, Enhanced: said.EnhancedCode, Text: said.Message, Err: err}
}

func (b *Outbox) later(e outbox.Entry, unknown bool) error {
	return b.q.Retry(e, b.o.Now().Add(b.o.Backoff(e.Attempts)), unknown)
}

// ResentField is put before the content of a transaction that is sent again
// because an earlier attempt ended without the provider's answer. Behind it the
// octets are those of the first attempt.
const ResentField = "CloudMLS-Resent: an earlier copy was not confirmed\r\n"

// transaction is an entry as the account sees it.
func (b *Outbox) transaction(e outbox.Entry) Transaction {
	t := Transaction{
		ID: e.ID, From: e.From, Recipients: e.Recipients, Size: e.Size, UTF8: e.UTF8, EightBit: e.EightBit,
		Sealed: true, Note: e.Note, Resent: e.Resent, notify: e.Notify,
		Open: func() (io.ReadCloser, error) { return b.q.OpenContent(e) },
	}
	if e.Resent {
		t.Size += int64(len(ResentField))
		t.Open = func() (io.ReadCloser, error) {
			f, err := b.q.OpenContent(e)
			if err != nil {
				return nil, err
			}
			return &marked{Reader: io.MultiReader(strings.NewReader(ResentField), f), Closer: f}, nil
		}
	}
	return t
}

// marked is content with ResentField before it.
type marked struct {
	io.Reader
	io.Closer
}

// heldBatch is what waits for the fate of the first transaction.
type heldBatch struct{ b *outbox.Batch }

// hold stores transactions without sending them. It takes sealed ones only.
func (b *Outbox) hold(username string, transactions []Transaction) (*heldBatch, error) {
	items := make([]outbox.Item, 0, len(transactions))
	for _, t := range transactions {
		if !t.Sealed {
			return nil, fmt.Errorf("transaction %s is in clear and must not be stored", t.ID)
		}
		items = append(items, outbox.Item{Open: t.Open, Entry: outbox.Entry{
			ID: t.ID, Username: username, From: t.From, Recipients: t.Recipients, Size: t.Size,
			UTF8: t.UTF8, EightBit: t.EightBit, Note: t.Note, Notify: t.notify,
		}})
	}
	batch, err := b.q.Hold(items, b.o.Now())
	if err != nil {
		return nil, err
	}
	return &heldBatch{batch}, nil
}

func (h *heldBatch) release() error { return h.b.Release() }
func (h *heldBatch) discard() error { return h.b.Discard() }
