package cloudmls

import (
	"context"
	"errors"
	"fmt"
)

// aheadRecord is what a page of deliveries gives people to know, on the disk of this
// device before the transaction with which the page is gone from the queue: a device
// that crashes after it, or does not get its answer, tells all the same, once it sees
// that the transaction went through.
type aheadRecord struct {
	Version  int             `json:"v"`
	Cursor   uint64          `json:"cursor"` // of the inbox, once it went through
	Problems []problemRecord `json:"problems,omitempty"`
	Notices  []noticeRecord  `json:"notices,omitempty"`
}

const aheadCache = "sdk/ahead"

// ahead is what one page has on the disk.
type ahead struct {
	c    *Client
	self Account
	kept *aheadRecord // nil: nothing
}

// keep puts what a run of the transaction found in the place of what one before it
// did. The caller holds the account's sync lock.
func (a *ahead) keep(cursor uint64, result *SyncResult) error {
	r := &aheadRecord{
		Version: recordVersion, Cursor: cursor,
		Problems: a.c.problemRecords(result.Problems), Notices: noticeRecords(result.Notices),
	}
	if len(r.Problems)+len(r.Notices) == 0 {
		return a.drop()
	}
	b, err := encodeRecord(r)
	if err != nil {
		return err
	}
	a.kept = r
	if err := a.c.store.Cache(aheadCache).Put(a.self.String(), b); err != nil {
		return fmt.Errorf("note what is to be told: %w", err)
	}
	return nil
}

// drop forgets what is told by now, or need not be.
func (a *ahead) drop() error {
	if a.kept == nil {
		return nil
	}
	if err := a.c.store.Cache(aheadCache).Delete(a.self.String()); err != nil {
		return fmt.Errorf("forget what was told: %w", err)
	}
	a.kept = nil
	return nil
}

// tell notes it for Status, once the transaction went through. What could not be
// noted stays on the disk as it is.
func (a *ahead) tell(ctx context.Context) error {
	if a.kept == nil {
		return nil
	}
	err := errors.Join(a.c.keepProblems(ctx, a.self, a.kept.Problems), a.c.keepNoticeRecords(ctx, a.self, a.kept.Notices))
	if err != nil {
		return fmt.Errorf("note what a Sync found: %w", err)
	}
	return a.drop()
}

// recall tells what a page before found, where nobody knew whether its transaction
// had gone through. The caller holds the account's sync lock, and the state is up to
// date.
func (c *Client) recall(ctx context.Context, self Account) error {
	b, err := c.store.Cache(aheadCache).Get(self.String())
	if err != nil || b == nil {
		return err
	}
	a := &ahead{c: c, self: self, kept: &aheadRecord{}}
	if err := decodeRecord(b, a.kept); err != nil {
		c.warn(ctx, "what was to be told is not known", err)
		return a.drop()
	}
	inbox, err := c.reader(ctx, self).inbox()
	if err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	if inbox.Cursor < a.kept.Cursor {
		return a.drop() // it comes again
	}
	return a.tell(ctx)
}
