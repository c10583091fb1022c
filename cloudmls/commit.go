package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

const (
	// maxAttempts bounds how often a lost race is run again.
	maxAttempts = 24
	// maxUnseen is how often in a row an epoch may be taken by a Commit that is
	// not delivered.
	maxUnseen = 3
)

// makeError: a Commit could not be made of a change.
type makeError struct{ err error }

func (e *makeError) Error() string { return "make Commit: " + e.err.Error() }

func (e *makeError) Unwrap() error { return e.err }

// movedError: the group is not in the epoch any more that a Commit was made
// in. Winner is the Commit that was faster, where the key server told.
type movedError struct {
	winner *keyapi.Delivery
	taken  bool // the key server said so
}

func (*movedError) Error() string { return "the group moved to another epoch" }

// commit makes the change that plan asks for, as the only place where epochs
// are opened in an existing group. The group is not changed before the key
// server accepted the Commit; where another member was faster, the Commit is
// dropped, the winner's is processed and plan asked again. The caller holds
// the conversation's lock.
func (c *Client) commit(ctx context.Context, self Account, id ConversationID, plan func(*conversationRecord) (*change, error)) (*conversationRecord, error) {
	unseen := 0
	for range maxAttempts {
		conv, err := c.member(ctx, self, id)
		if err != nil {
			return nil, err
		}
		ch, err := plan(conv)
		if err != nil || ch == nil {
			return conv, err
		}
		ch.removeLeavers(self, conv)
		if !ch.renew { // whom it lets in would see a leaf of a key that is none any more
			if ch.renew, err = c.showsFormer(ctx, self, conv); err != nil {
				return nil, err
			}
		}
		next, err := c.commitOnce(ctx, self, conv, ch)
		if err == nil {
			return next, nil
		}
		if isCode(err, keyapi.CodeInstanceConflict) {
			if err := c.elsewhere(ctx, self, conv, err); err != nil {
				return nil, err
			}
			continue
		}
		var moved *movedError
		if !errors.As(err, &moved) {
			return nil, c.lostState(ctx, self, conv, err)
		}
		if _, err := c.sync(ctx, self); err != nil {
			return nil, fmt.Errorf("follow the faster Commit: %w", err)
		}
		if err := c.followWinner(ctx, self, conv, moved.winner); err != nil {
			return nil, err
		}
		if unseen, err = c.countUnseen(ctx, self, conv, moved, unseen); err != nil {
			return nil, err
		}
	}
	return nil, ErrBusy
}

// countUnseen counts how often in a row the key server said that the epoch was
// taken and did not show by what. A sibling device's Commit shows in the state
// and others' in the queue, so that once more than one race allows is a reason
// to stop.
func (c *Client) countUnseen(ctx context.Context, self Account, before *conversationRecord, moved *movedError, n int) (int, error) {
	now, err := c.reader(ctx, self).conversation(before.ID)
	if err != nil {
		return n, fmt.Errorf("conversation: %w", err)
	}
	if !moved.taken || now == nil || now.Epoch != before.Epoch || string(now.Group) != string(before.Group) || now.Removed != 0 {
		return 0, nil
	}
	if n++; n < maxUnseen {
		return n, nil
	}
	return n, c.withheld(ctx, self, now)
}

// lostState breaks a conversation whose live group is missing in the state, so
// that the others are asked for help. It gives err back.
func (c *Client) lostState(ctx context.Context, self Account, conv *conversationRecord, err error) error {
	if !errors.Is(err, state.ErrNotFound) {
		return err
	}
	e := c.changeConversation(ctx, self, conv, func(v *view, now *conversationRecord, result *SyncResult) error {
		return c.breakDown(v, now, &refusal{kind: ProblemLostState, err: err}, nil, NoticeBroken, result)
	})
	return errors.Join(err, e)
}

// member gives the conversation if the account can take part in it.
func (c *Client) member(ctx context.Context, self Account, id ConversationID) (*conversationRecord, error) {
	conv, err := c.reader(ctx, self).conversation(id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("conversation: %w", err)
	case conv == nil:
		return nil, ErrNoConversation
	}
	if err := conv.blocked(); err != nil {
		return nil, err
	}
	return conv, nil
}

// commitOnce reserves a handshake generation, stages a Commit and publishes it
// with the next epoch's state in one transaction. Where only unrelated objects
// changed meanwhile, the identical Commit is sent again. After an error whose
// outcome is not known the state tells, at the next Sync, whether it happened.
func (c *Client) commitOnce(ctx context.Context, self Account, conv *conversationRecord, ch *change) (*conversationRecord, error) {
	if err := c.settleFormer(ctx, self, conv.ID); err != nil {
		return nil, err
	}
	generation, err := c.reserveHandshake(ctx, self, conv)
	if err != nil {
		return nil, err
	}
	crashpoint.Here("handshake-reserved")
	g, sender, err := c.reader(ctx, self).group(conv.Group, conv.Epoch)
	if err != nil {
		return nil, err
	}
	if uint64(g.Epoch()) != conv.Epoch {
		return nil, &movedError{}
	}
	signature := mls.SignaturePrivateKey(sender.SignatureKey)
	options, signature, err := c.commitOptions(ctx, self, g, ch, signature)
	if err != nil {
		return nil, err
	}
	options.Generation = &generation
	if options.ReuseGuard, err = c.reuseGuard(conv.Group, conv.Epoch); err != nil {
		return nil, err
	}
	crashpoint.Once("handshake generation", self, conv.Group, conv.Epoch, generation)
	pending, err := g.Commit(options)
	if err != nil {
		return nil, &makeError{err}
	}
	submission, err := submit(self, conv, g, pending)
	if err != nil {
		return nil, err
	}
	submission.Joiners = sortedAccounts(ch.add)
	crashpoint.Here("commit-staged")
	var next *conversationRecord
	still := func(v *view) error {
		now, err := v.conversation(conv.ID)
		if err != nil {
			return err
		}
		if now == nil || now.Removed != 0 || now.Broken != "" || now.Left != 0 || string(now.Group) != string(conv.Group) || now.Epoch != conv.Epoch {
			return &movedError{}
		}
		next = now
		return nil
	}
	for more := true; more; {
		err = c.together(ctx, self, func(tx *state.Tx, v *view) error {
			if err := still(v); err != nil {
				return err
			}
			v.vouchFor(ch.add)
			next.Renew = next.Renew && !ch.renew
			if err := v.owe(next, ch.owed(), c.now()); err != nil {
				return err
			}
			if err := v.openEpoch(next, pending.Staged.Group(), signature, c.now()); err != nil {
				return err
			}
			return tx.SetCommit(*submission)
		})
		// Nothing of it happened: the identical Commit goes to the others.
		if more = ch.leaveOut(self, conv, err); more {
			submission.Recipients = slices.DeleteFunc(submission.Recipients, func(a Account) bool { return slices.Contains(ch.untold, a) })
		}
	}
	if errors.Is(err, keyapi.ErrSplit) {
		var s *stagedRecord
		if s, err = stageGroup(*submission, pending.Staged.Group(), signature, ch.add, ch.renew); err == nil {
			next, err = c.commitApart(ctx, self, s, still)
		}
	}
	if err == nil {
		crashpoint.Here("commit-merged")
	}
	return next, moved(err)
}

// moved turns the key server's word that the epoch was taken into a movedError.
func moved(err error) error {
	var p *keyapi.Problem
	if errors.As(err, &p) && p.Code == keyapi.CodeEpochConflict {
		return &movedError{winner: p.Winner, taken: true}
	}
	if errors.Is(err, state.ErrBusy) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return err
}
