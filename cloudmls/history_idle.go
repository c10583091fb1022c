package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// renewIdle is how often an epoch in which nothing happens is ended, in days, so
// that its messages can be deleted.
const renewIdle = 7

// idle tells whether the present epoch is so old that what was sent in it is due.
// One of the future was opened by a device whose clock was wrong: how old it is,
// nobody knows.
func (r *conversationRecord) idle(t time.Time) bool {
	old := t.UnixMilli() - r.Updated
	return old >= max(int64(r.Days), renewIdle)*dayMillis || old < -clockAgreement.Milliseconds()
}

// stuck tells whether the present epoch of a group is over for this account although
// nobody has ended it: the group broke, the others have gone on, and nothing that is
// sent to this account comes in that epoch any more. Without that, what was sent in
// it would stay until the account is let in again, which may be never.
func (r *conversationRecord) stuck(i *instance, t time.Time) bool {
	return r.Broken != "" && r.Removed == 0 && bytes.Equal(r.Group, i.group) && r.idle(t)
}

// dropLive deletes the live group of a conversation that is stuck, with the last of
// its epochs: the keys to what was said are in it, too. To be let in again takes a
// Welcome, and no more than that.
func (v *view) dropLive(conv *conversationRecord) error {
	switch _, err := v.get(groupKey(v.self, conv.Group)); {
	case errors.Is(err, state.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return v.leaveGroup(conv.Group, conv.Epoch)
}

// withoutLive tells of what view.group gives whether there is no live group to go on
// with: it is missing, or dropLive deleted it. What the latter leaves behind looks like
// a group that a sibling device has left, but of one that broke there is no more to
// follow; where a sibling did mend it meanwhile, the transaction is refused.
func (r *conversationRecord) withoutLive(err error) bool {
	var moved *movedError
	return errors.Is(err, state.ErrNotFound) || r.Broken != "" && errors.As(err, &moved)
}

// endIdle opens a new epoch in a group of this account whose present one is idle.
// In a group that was left it cannot: there the own part ends, whether or not any
// of the others has carried out what they were asked.
func (c *Client) endIdle(ctx context.Context, self Account, i *instance, t time.Time) error {
	unlock, err := c.locks.lock(ctx, conversationLock(self, i.conversation))
	if err != nil {
		return err
	}
	defer unlock()
	conv, err := c.reader(ctx, self).conversation(i.conversation)
	if err != nil {
		return fmt.Errorf("conversation: %w", err)
	}
	if conv != nil && conv.Left != 0 && conv.Removed == 0 && string(conv.Group) == string(i.group) && conv.idle(t) {
		var moved *movedError
		if err := c.forget(ctx, self, conv); err != nil && !errors.As(err, &moved) {
			return err
		}
		return nil // where it goes on after all, it is not idle
	}
	_, err = c.commit(ctx, self, i.conversation, func(conv *conversationRecord) (*change, error) {
		if string(conv.Group) != string(i.group) || !conv.idle(t) {
			return nil, nil
		}
		return &change{renew: true}, nil
	})
	if err != nil {
		return fmt.Errorf("end an old epoch: %w", err)
	}
	return nil
}
