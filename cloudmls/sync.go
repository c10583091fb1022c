package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

const (
	// syncPage is how many deliveries are processed in one transaction.
	syncPage = 32
	// syncBytes ends a transaction early when its changes get larger.
	syncBytes = 8 << 20
	// maxChange bounds what one delivery may change, so that with those before
	// it in the transaction it stays below keyapi.MaxTxSize.
	maxChange = 24 << 20
	// maxStuck is how many pages may bring nothing new, because sibling devices
	// were faster.
	maxStuck = 16
)

// unprocessedError: the key server delivered something that could not be worked
// into the state. Whoever encrypts must not go on as if nothing had arrived: it
// may be the removal of a member.
type unprocessedError struct{ err error }

func (e *unprocessedError) Error() string { return "process deliveries: " + e.err.Error() }

func (e *unprocessedError) Unwrap() error { return e.err }

// refusal is why a delivery was not accepted. It takes its place in
// SyncResult.Problems; other errors are temporary and stop the Sync.
type refusal struct {
	kind ProblemKind
	err  error
	hold *IdentityChangedError // the key that must be accepted first
}

func (r *refusal) Error() string { return string(r.kind) + ": " + r.err.Error() }

func refuse(kind ProblemKind, err error) error { return &refusal{kind: kind, err: err} }

// Sync brings this device up to date: it takes the state that other devices of
// the user left at the key server, and everything from the account's delivery
// queue, in order. Each step is one transaction of new state, cursor and
// acknowledgement, so nothing is lost or done twice, whichever device is
// faster. A message that is refused is reported in SyncResult.Problems and
// does not block those after it. At the end Sync does what waits in the
// account's conversations, which may open epochs: it asks to be let in again
// where this account lost track of a group, and does what members asked for.
func (c *Client) Sync(ctx context.Context, self Account) (SyncResult, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return SyncResult{}, err
	}
	r, err := c.sync(ctx, self)
	if err == nil {
		c.settleAll(ctx, self, &r)
		c.renewJoined(ctx, self, r.Joined)
		c.mend(ctx, self)
		told, e := c.tellRotations(ctx, self, true)
		if e != nil {
			c.warn(ctx, "what is to be told of identity keys was not noted", e)
		}
		for _, n := range told {
			r.Rotated, r.Notices = append(r.Rotated, n.Account), append(r.Notices, n)
		}
	}
	return r, err
}

func (c *Client) sync(ctx context.Context, self Account) (SyncResult, error) {
	began := c.begin()
	r, err := c.syncOnce(ctx, self)
	if err == nil {
		c.wentThrough(self, began)
	}
	c.noteSync(ctx, self, err)
	return r, err
}

func (c *Client) syncOnce(ctx context.Context, self Account) (SyncResult, error) {
	total, err := c.drain(ctx, self)
	for range maxStuck {
		var moved *movedError
		if !errors.As(err, &moved) {
			break
		}
		var more SyncResult // a sibling device was faster: look at its state
		more, err = c.drain(ctx, self)
		total.add(more)
	}
	if err != nil {
		return total, fmt.Errorf("sync: %w", err)
	}
	if err := c.followPins(ctx, self); err != nil {
		return total, fmt.Errorf("sync: %w", err)
	}
	c.noteRotations(ctx, self) // where a sibling device followed, too
	if err := c.lookAtPool(ctx, self, len(total.Joined) > 0); err != nil {
		if ctx.Err() != nil {
			return total, fmt.Errorf("sync: %w", err)
		}
		c.warn(ctx, "KeyPackages were not refilled", err)
	}
	return total, nil
}

// drain empties the delivery queue.
func (c *Client) drain(ctx context.Context, self Account) (SyncResult, error) {
	var total SyncResult
	unlock, err := c.locks.lock(ctx, syncLock(self))
	if err != nil {
		return total, err
	}
	defer unlock()
	if _, err := c.store.Refresh(ctx); err != nil {
		return total, err
	}
	if err := c.recall(ctx, self); err != nil {
		return total, err
	}
	last := uint64(0) // that was processed
	for stuck := 0; ; {
		page, err := c.deliveries(ctx, self, syncPage, 0)
		if err != nil {
			return total, err
		}
		if len(page.Messages) == 0 {
			return total, c.catchUp(ctx, self, page.Last)
		}
		if err := c.followRequests(ctx, self, page.Messages); err != nil {
			return total, &unprocessedError{err}
		}
		var part SyncResult
		said := &ahead{c: c, self: self}
		part, last, err = c.processPage(ctx, self, page.Messages, last, said)
		if err != nil {
			return total, &unprocessedError{err}
		}
		c.sawQueue(self, last)
		if part.Processed == 0 {
			if stuck++; stuck == maxStuck {
				return total, errors.New("the key server keeps delivering what was acknowledged")
			}
		}
		total.add(part)
		if err := said.tell(ctx); err != nil {
			return total, err
		}
	}
}

// catchUp looks at the state once more where the queue has had messages that this
// device knows nothing of: a sibling device may have taken them, after the look at the
// state and before the one at the queue. Its transaction has what they say.
func (c *Client) catchUp(ctx context.Context, self Account, given uint64) error {
	inbox, err := c.reader(ctx, self).inbox()
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	c.mu.Lock()
	known := max(c.queued[self], inbox.Cursor)
	c.mu.Unlock()
	if given <= known {
		return nil
	}
	if _, err := c.store.Refresh(ctx); err != nil {
		return err
	}
	c.sawQueue(self, given)
	return nil
}

// sawQueue notes up to where what was delivered is in the state, or changes nothing.
func (c *Client) sawQueue(self Account, seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queued[self] = max(c.queued[self], seq)
}

func (r *SyncResult) add(p SyncResult) {
	r.Processed += p.Processed
	r.Joined = append(r.Joined, p.Joined...)
	r.Replaced = append(r.Replaced, p.Replaced...)
	r.Changed = append(r.Changed, p.Changed...)
	r.Removed = append(r.Removed, p.Removed...)
	r.Rotated = append(r.Rotated, p.Rotated...)
	r.Problems = append(r.Problems, p.Problems...)
	r.Repaired = append(r.Repaired, p.Repaired...)
	r.Notices = append(r.Notices, p.Notices...)
	r.todo = append(r.todo, p.todo...)
}

// deliveries reads the queue after the cursor.
func (c *Client) deliveries(ctx context.Context, self Account, limit int, wait time.Duration) (keyapi.Deliveries, error) {
	inbox, err := c.reader(ctx, self).inbox()
	if err != nil {
		return keyapi.Deliveries{}, fmt.Errorf("inbox: %w", err)
	}
	var page keyapi.Deliveries
	err = c.store.Authorized(ctx, func(ctx context.Context, token string) (err error) {
		q := DeliveryQuery{Account: self, After: inbox.Cursor, Limit: limit, Wait: wait}
		page, err = c.o.Server.Deliveries(ctx, token, q)
		return err
	})
	if err == nil {
		err = c.inTouch(self)
	}
	return page, err
}

// processPage handles deliveries in one transaction. When a sibling device was
// faster the transaction runs again on the state that it left, and finds them
// done. Those up to done are, without the cursor saying so. It gives the last one
// that was processed; said has what is to be told of it.
func (c *Client) processPage(ctx context.Context, self Account, page []keyapi.Delivery, done uint64, said *ahead) (SyncResult, uint64, error) {
	var result SyncResult
	var last uint64
	err := c.store.Update(ctx, func(tx *state.Tx) error {
		result = SyncResult{}
		v := newView(tx, self, &c.certs)
		inbox, err := v.inbox()
		if err != nil {
			return err
		}
		last = max(done, inbox.Cursor)
		for i := range page {
			d := &page[i]
			if d.Seq <= last {
				continue
			}
			if v.size() > syncBytes {
				break
			}
			if err := c.processOne(v, inbox, d, &result); err != nil {
				return err
			}
			last = d.Seq
			result.Processed++
		}
		if err := said.keep(inbox, &result); err != nil {
			return err
		}
		if len(v.puts) > 0 || result.reports() {
			inbox.Cursor = last
			inbox.remember(result.todo)
			if err := v.put(inboxKey(self), inbox); err != nil {
				return err
			}
		} // else all was known, as it would be once more; a cursor would cost a head
		if err := v.flush(tx); err != nil {
			return err
		}
		crashpoint.Here("deliveries-processed")
		tx.Ack(self, last)
		return nil
	})
	if err == nil {
		crashpoint.Here("deliveries-acknowledged")
	}
	return result, last, err
}

// reports tells whether there is anything to tell or to do.
func (r *SyncResult) reports() bool {
	return len(r.Problems)+len(r.Notices)+len(r.Joined)+len(r.Changed)+len(r.Removed)+len(r.todo) > 0
}

// attempt runs fn on a nested view, which is merged, with what fn has to tell, where
// it succeeds, and else dropped.
func (v *view) attempt(result *SyncResult, fn func(*view, *SyncResult) error) error {
	child, part := v.nested(), SyncResult{}
	if err := fn(child, &part); err != nil {
		return err
	}
	if err := child.checkSizes(); err != nil {
		return err
	}
	v.merge(child)
	result.add(part)
	return nil
}

// processOne handles one delivery on a nested view, which is dropped when the
// delivery is refused.
func (c *Client) processOne(v *view, inbox *inboxRecord, d *keyapi.Delivery, result *SyncResult) error {
	err := v.attempt(result, func(child *view, part *SyncResult) error { return c.process(child, d, part) })
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	p := Problem{Seq: d.Seq, Sender: d.Sender, Kind: r.kind, Err: r.err}
	copy(p.Conversation[:], d.Conversation)
	result.Problems = append(result.Problems, p)
	if r.hold != nil {
		if err := v.noteChanged(r.hold); err != nil {
			return err
		}
		result.Problems = append(result.Problems, inbox.hold(d, r.hold.Account)...)
	}
	return c.breakIfNeeded(v, d, r, result)
}

func (c *Client) process(v *view, d *keyapi.Delivery, result *SyncResult) error {
	if len(d.Conversation) != len(ConversationID{}) {
		return refuse(ProblemGarbage, errors.New("conversation id of a wrong length"))
	}
	switch d.Type {
	case keyapi.DeliveryCommit:
		return c.processCommit(v, d, result)
	case keyapi.DeliveryWelcome:
		return c.processWelcome(v, d, result)
	case keyapi.DeliveryNotice:
		return c.processNotice(v, d, result)
	}
	return refuse(ProblemGarbage, fmt.Errorf("delivery of type %q", d.Type))
}
