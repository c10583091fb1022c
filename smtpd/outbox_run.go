package smtpd

import (
	"context"
	"sync"
	"time"

	"github.com/cloudmls/gateway/smtpd/outbox"
)

// diskPatience is how long an account waits after the queue's files could not
// be written: there is no use in hurrying.
const diskPatience = time.Minute

// Run sends what is due until ctx ends, and returns its error when everything
// it started has ended. Each account has a worker of its own, one transaction
// at a time, so a provider that hangs delays nobody else. A transaction under
// way at the end is tried again at the next Run.
func (b *Outbox) Run(ctx context.Context) error {
	w := &workers{b: b, busy: make(map[string]bool), notBefore: make(map[string]time.Time), done: make(chan finished), wait: time.Hour}
	var running sync.WaitGroup
	defer running.Wait()
	for {
		for _, name := range b.q.Usernames() {
			if e, ok := w.due(name); ok {
				w.busy[name] = true
				running.Go(func() { w.work(ctx, e) })
			}
		}
		if err := w.pause(ctx); err != nil {
			return err
		}
	}
}

// workers is what the loop of Run knows; only that loop uses its maps.
type workers struct {
	b         *Outbox
	busy      map[string]bool
	notBefore map[string]time.Time // of accounts whose files could not be written
	done      chan finished
	wait      time.Duration // until the next entry is due
}

type finished struct {
	username string
	err      error // of the queue's files
}

// due gives the entry of an account that its worker has to try now.
func (w *workers) due(username string) (outbox.Entry, bool) {
	e, ok := w.b.q.Next(username)
	if !ok || w.busy[username] {
		return e, false
	}
	at := e.Next
	if held := w.notBefore[username]; held.After(at) {
		at = held
	}
	if wait := at.Sub(w.b.o.Now()); wait > 0 {
		w.wait = min(w.wait, wait)
		return e, false
	}
	return e, true
}

// work tries one entry.
func (w *workers) work(ctx context.Context, e outbox.Entry) {
	err := w.b.attempt(ctx, e)
	if err != nil && ctx.Err() == nil {
		w.b.o.Logger.Error("outbox not written", "transaction", e.ID, "err", err)
	}
	select {
	case w.done <- finished{e.Username, err}:
	case <-ctx.Done():
	}
}

// pause waits until something is due or changed, or ctx ends.
func (w *workers) pause(ctx context.Context) error {
	timer := time.NewTimer(w.wait)
	defer timer.Stop()
	w.wait = time.Hour
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	case <-w.b.q.Wake():
	case f := <-w.done:
		delete(w.busy, f.username)
		delete(w.notBefore, f.username)
		if f.err != nil {
			w.notBefore[f.username] = w.b.o.Now().Add(diskPatience)
		}
	}
	return nil
}
