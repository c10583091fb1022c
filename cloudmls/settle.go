package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// maxSubmits bounds how often one call submits a staged Commit while answers are
// lost. Later calls, of any device, go on with it.
const maxSubmits = 3

// commitApart opens an epoch where deliveries and objects are apart: it stores
// the Commit, unless ready says that it is void already, and settles it. The
// caller holds the conversation's lock.
func (c *Client) commitApart(ctx context.Context, self Account, s *stagedRecord, ready func(*view) error) (*conversationRecord, error) {
	err := c.update(ctx, self, func(_ *state.Tx, v *view) error {
		if err := ready(v); err != nil {
			return err
		}
		former, err := v.staged(s.id())
		if err != nil {
			return err
		}
		if former != nil && !former.is(s) {
			return &movedError{} // a sibling device was faster
		}
		return v.stage(s)
	})
	if err != nil {
		return nil, err
	}
	crashpoint.Here("commit-stored")
	return c.settle(ctx, self, s.id())
}

// settle submits the conversation's staged Commit and carries out what becomes of
// it: nil, nil where there is none. After an error that is neither a refusedError
// nor a movedError it is still there. The caller holds the conversation's lock.
func (c *Client) settle(ctx context.Context, self Account, id ConversationID) (*conversationRecord, error) {
	s, err := c.reader(ctx, self).staged(id)
	if err != nil || s == nil {
		return nil, err
	}
	var p *keyapi.Problem
	for {
		err, p = c.submitAlone(ctx, &s.Submission), nil
		if !undeliverable(err) || !errors.As(err, &p) {
			break
		}
		// All or nothing: nobody was told. It goes to fewer people each time.
		next, e := c.tellFewer(ctx, self, s, p)
		if e != nil {
			return nil, e
		}
		if next == nil {
			break
		}
		s = next
	}
	switch errors.As(err, &p); {
	case err == nil, p != nil && s.acceptedBefore(p):
		crashpoint.Here("commit-accepted")
		return c.promoteAccepted(ctx, self, s)
	case p == nil:
		return nil, fmt.Errorf("submit Commit: outcome not known: %w", err)
	}
	switch p.Code {
	case keyapi.CodeEpochConflict:
		// It stays staged until the faster one is in the state, which forgets it: a
		// sibling device that has not followed yet, or whom the word that there is
		// one did not convince, would make another Commit for the epoch.
		return nil, &movedError{winner: p.Winner, taken: true}
	case keyapi.CodeInstanceConflict:
		// Another group serves the conversation. That ours did before it, the queue
		// tells.
		if _, err := c.sync(ctx, self); err != nil {
			return nil, fmt.Errorf("follow the faster Commit: %w", err)
		}
	case keyapi.CodeInvalid, keyapi.CodeForbidden, keyapi.CodeVerificationRequired, keyapi.CodeNotFound, keyapi.CodeNoAccount,
		keyapi.CodeTooLarge, keyapi.CodeQuota:
	default:
		return nil, fmt.Errorf("submit Commit: %w", err)
	}
	if !s.hopeless(p) {
		return nil, &keptError{s, err}
	}
	if e := c.drop(ctx, self, s); e != nil {
		return nil, e
	}
	return nil, &refusedError{err}
}

// opens is the epoch that the Commit opens.
func (s *stagedRecord) opens() uint64 {
	if len(s.Submission.Commit) == 0 {
		return s.Submission.Epoch // a group of one
	}
	return s.Submission.Epoch + 1
}

// acceptedBefore tells whether a refusal says that this very Commit was accepted
// when it was submitted before.
func (s *stagedRecord) acceptedBefore(p *keyapi.Problem) bool {
	if p.Code == keyapi.CodeInstanceConflict {
		return s.Submission.Create && p.Instance != nil && bytes.Equal(p.Instance.Group, s.Submission.Group)
	}
	return p.Code == keyapi.CodeEpochConflict && s.delivered(p.Winner)
}

// submitAlone sends the identical octets to the delivery server until there is
// an answer.
func (c *Client) submitAlone(ctx context.Context, s *keyapi.CommitSubmission) (err error) {
	for range maxSubmits {
		err = c.store.Authorized(ctx, func(ctx context.Context, token string) error {
			r, err := c.o.Server.Tx(ctx, token, keyapi.Tx{Commit: s})
			if err == nil && !r.Applied {
				err = errors.New("the answer does not say that it was applied")
			}
			return err
		})
		var p *keyapi.Problem
		if err == nil || errors.As(err, &p) || ctx.Err() != nil || errors.Is(err, state.ErrSignedOut) {
			return err
		}
	}
	return err
}

func (c *Client) promoteAccepted(ctx context.Context, self Account, s *stagedRecord) (*conversationRecord, error) {
	var conv *conversationRecord
	err := c.update(ctx, self, func(_ *state.Tx, v *view) error {
		conv = nil
		now, err := v.staged(s.id())
		if err != nil {
			return err
		}
		if s.is(now) {
			conv, err = c.promote(v, now) // what was read before may be outdated: see markLeaf
			var moved *movedError
			if errors.As(err, &moved) { // the state went on without it: nothing will come of it
				conv = nil
				return v.unstage(s.id())
			}
			return err
		}
		conv, err = v.conversation(s.id()) // by the queue, or by a sibling device
		return err
	})
	if err != nil {
		return nil, moved(err)
	}
	if conv == nil || conv.Removed != 0 || !bytes.Equal(conv.Group, s.Submission.Group) || conv.Epoch < s.opens() {
		return nil, &movedError{}
	}
	return conv, nil
}

// drop forgets a staged Commit.
func (c *Client) drop(ctx context.Context, self Account, s *stagedRecord) error {
	return c.update(ctx, self, func(_ *state.Tx, v *view) error {
		now, err := v.staged(s.id())
		if err != nil || !s.is(now) {
			return err
		}
		return v.unstage(s.id())
	})
}

// settleFormer goes on with a Commit that a device left behind. movedError: it
// opened an epoch, or another Commit did. keptError: it is refused for now, and
// there is no other one for the epoch.
func (c *Client) settleFormer(ctx context.Context, self Account, id ConversationID) error {
	conv, err := c.settle(ctx, self, id)
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		return nil
	case err == nil && conv != nil:
		return &movedError{}
	}
	return err
}

// settleAll goes on with the Commits that devices left behind. What stays unclear
// is left to a later Sync.
func (c *Client) settleAll(ctx context.Context, self Account, result *SyncResult) {
	index, err := c.reader(ctx, self).stagedIndex()
	if err != nil {
		c.warn(ctx, "staged Commits were not read", err)
		return
	}
	for _, id := range index.Staged {
		if ctx.Err() != nil {
			return
		}
		unlock, err := c.locks.lock(ctx, conversationLock(self, id))
		if err != nil {
			return
		}
		before, err := c.reader(ctx, self).conversation(id)
		var conv *conversationRecord
		if err == nil {
			conv, err = c.settle(ctx, self, id)
		}
		unlock()
		var was *movedError
		switch {
		case errors.As(err, &was):
			more, err := c.sync(ctx, self)
			result.add(more)
			if err == nil && before != nil {
				err = c.followWinner(ctx, self, before, was.winner)
			}
			if err != nil {
				c.warn(ctx, "a staged Commit was beaten by one that was not followed yet", err)
			}
		case err != nil:
			c.warn(ctx, "a staged Commit was not settled", err)
		case conv != nil:
			result.Changed = append(result.Changed, id)
		}
	}
}
