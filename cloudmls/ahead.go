package cloudmls

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
)

// aheadRecord is what a page of deliveries gives people to know, on the disk of this
// device before the transaction with which the page is gone from the queue: a device
// that crashes after it, or does not get its answer, tells all the same, once it sees
// by the mark in the inbox that the transaction went through. Without it the page may
// have been the work of a sibling device, which found something else, and tells that.
type aheadRecord struct {
	Version  int             `json:"v"`
	Mark     []byte          `json:"mark"`
	Problems []problemRecord `json:"problems,omitempty"`
	Notices  []noticeRecord  `json:"notices,omitempty"`
}

const (
	aheadCache = "sdk/ahead"
	markSize   = 8 // octets, random
	// maxMarks is how many transactions that told something an inbox remembers: those
	// that siblings may have made since.
	maxMarks = 4
)

// ahead is what one page has on the disk.
type ahead struct {
	c    *Client
	self Account
	kept *aheadRecord // nil: nothing
}

// keep puts what a run of the transaction found in the place of what one before it
// did, and marks the inbox that it will leave. The caller holds the account's sync
// lock.
func (a *ahead) keep(inbox *inboxRecord, result *SyncResult) error {
	if len(result.Problems)+len(result.Notices) == 0 {
		return a.drop()
	}
	r := &aheadRecord{
		Version: recordVersion, Mark: make([]byte, markSize),
		Problems: a.c.problemRecords(result.Problems), Notices: noticeRecords(result.Notices),
	}
	if _, err := rand.Read(r.Mark); err != nil {
		return fmt.Errorf("mark what is to be told: %w", err)
	}
	inbox.Marks = append(inbox.Marks[max(0, len(inbox.Marks)-maxMarks+1):], r.Mark)
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
	if !slices.ContainsFunc(inbox.Marks, func(m []byte) bool { return bytes.Equal(m, a.kept.Mark) }) {
		return a.drop() // it comes again, or a sibling was faster
	}
	return a.tell(ctx)
}
