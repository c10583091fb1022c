package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// findEpoch gives the archive record for a message, after a Sync if need be.
func (c *Client) findEpoch(ctx context.Context, self Account, group []byte, epoch uint64) (*epochRecord, error) {
	r, err := c.epoch(ctx, self, group, epoch)
	if err == nil {
		return r, nil
	}
	if !errors.Is(err, state.ErrNotFound) {
		return nil, fmt.Errorf("archive record: %w", err)
	}
	if err := c.neverOpens(ctx, self, group, epoch); err != nil {
		return nil, err
	}
	if _, err := c.sync(ctx, self); err != nil {
		if errors.Is(err, ErrMoving) { // what another device has stored is read all the same
			if r, e := c.epoch(ctx, self, group, epoch); e == nil {
				return r, nil
			}
		}
		return nil, &NotYetError{Reason: NotYetOffline, Err: err}
	}
	r, err = c.epoch(ctx, self, group, epoch)
	if err == nil {
		return r, nil
	}
	if !errors.Is(err, state.ErrNotFound) {
		return nil, fmt.Errorf("archive record: %w", err)
	}
	if err := c.neverOpens(ctx, self, group, epoch); err != nil {
		return nil, err
	}
	if removed, err := c.removedFrom(ctx, self, group); err != nil {
		return nil, err
	} else if removed {
		return nil, &NeverError{Reason: NeverAfterRemoval}
	}
	known, err := c.knowsGroup(ctx, self, group)
	if err != nil {
		return nil, err
	}
	if known {
		if err := c.noteBehind(ctx, self, group, epoch); err != nil {
			return nil, err
		}
		return nil, &NotYetError{Reason: NotYetEpoch}
	}
	return nil, &NotYetError{Reason: NotYetGroup}
}

// neverOpens gives a *NeverError for an epoch of a known group before the one
// that the account entered it in: keys of the past are never handed out.
func (c *Client) neverOpens(ctx context.Context, self Account, group []byte, epoch uint64) error {
	h, err := c.history(ctx, self, group)
	if err != nil {
		return err
	}
	if epoch < h.From {
		return &NeverError{Reason: NeverDeleted}
	}
	records, err := c.conversations(ctx, self)
	if err != nil {
		return err
	}
	for _, conv := range records {
		if err := conv.neverOpens(group, epoch); err != nil {
			return err
		}
	}
	return nil
}

// neverOpens gives a *NeverError for an epoch of one of the conversation's groups
// that the account was not in.
func (r *conversationRecord) neverOpens(group []byte, epoch uint64) error {
	reason := NeverBeforeJoin
	for _, p := range r.Past {
		if !bytes.Equal(p.Group, group) {
			continue
		}
		if epoch < p.JoinEpoch {
			return &NeverError{Reason: reason}
		}
		reason = NeverAfterRemoval
		if !bytes.Equal(r.Group, group) && epoch > p.Epoch {
			return &NeverError{Reason: NeverAfterRemoval}
		}
	}
	if bytes.Equal(r.Group, group) && epoch < r.JoinEpoch {
		return &NeverError{Reason: reason}
	}
	return nil
}

// removedFrom tells whether the account was removed from the group.
func (c *Client) removedFrom(ctx context.Context, self Account, group []byte) (bool, error) {
	records, err := c.conversations(ctx, self)
	if err != nil {
		return false, err
	}
	for _, conv := range records {
		if bytes.Equal(conv.Group, group) {
			return conv.Removed != 0, nil
		}
	}
	return false, nil
}
