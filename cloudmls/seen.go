package cloudmls

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/mls"
)

// checkPlace remembers, on this device, which message was seen at which place
// of the sender's sequence, and marks a second one there and one that turns up
// long after its epoch.
//
// Archive records open messages any number of times, so this takes the place
// of the used-up keys that stop replays in MLS itself (RFC 9420 section 9.2).
func (c *Client) checkPlace(ctx context.Context, self Account, group []byte, r *epochRecord, app *mls.Application, p *Plaintext) error {
	seen := c.store.Cache("sdk/seen").Entry(placeName(self, group, p.Epoch, app.Sender, app.Generation))
	b, err := seen.Get()
	if err != nil {
		return fmt.Errorf("seen messages: %w", err)
	}
	const size = 32 + 8 + 1
	if len(b) == size {
		p.FirstSeen = time.UnixMilli(int64(binary.BigEndian.Uint64(b[32:])))
		if [32]byte(b[:32]) != p.Ref {
			p.Warnings = append(p.Warnings, WarningReplay)
			p.FirstSeen = c.now()
		} else if b[40] != 0 {
			p.Warnings = append(p.Warnings, WarningLate)
		}
		return nil
	}
	p.FirstSeen = c.now()
	late, err := c.isLate(ctx, self, group, r, p)
	if err != nil {
		return err
	}
	b = binary.BigEndian.AppendUint64(p.Ref[:], uint64(p.FirstSeen.UnixMilli()))
	if late {
		p.Warnings = append(p.Warnings, WarningLate)
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	if err := seen.Defer(b); err != nil {
		return fmt.Errorf("seen messages: %w", err)
	}
	return nil
}

// placeName names a place of a sender's sequence, in what devices have stored.
func placeName(self Account, group []byte, epoch uint64, sender mls.LeafIndex, generation uint32) string {
	b := make([]byte, 0, len(self.Platform)+len(self.ID)+2*len(group)+48)
	b = append(append(append(append(b, self.Platform...), 0), self.ID...), 0)
	b = append(hex.AppendEncode(b, group), '/')
	b = append(strconv.AppendUint(b, epoch, 10), '/')
	b = append(strconv.AppendUint(b, uint64(sender), 10), '/')
	return string(strconv.AppendUint(b, uint64(generation), 10))
}

// isLate tells whether a message first seen now should have been seen before:
// its epoch closed more than 14 days ago, or its sender has left since, and
// this device was there when the epoch closed. Of what happened before, a new
// device cannot tell.
func (c *Client) isLate(ctx context.Context, self Account, group []byte, r *epochRecord, p *Plaintext) (bool, error) {
	conv, err := c.knownConversation(ctx, self, p.Conversation)
	if err != nil {
		return false, fmt.Errorf("conversation: %w", err)
	}
	if conv == nil {
		return false, nil
	}
	m, present := rosterFind(conv.Members, p.Sender)
	present = present && bytes.Equal(m.IdentityKey, p.IdentityKey) // else that leaf was revoked
	if string(conv.Group) == string(group) && m.Joined > p.Epoch {
		present = false // that leaf was removed; the account came back with another
	}
	old := c.now().Sub(r.opened) > lateAfter
	if present && !old {
		return false, nil
	}
	closed, err := c.epochClosed(ctx, self, conv, group, p.Epoch)
	if err != nil || closed.IsZero() {
		return false, err
	}
	since, err := c.deviceSince()
	if err != nil {
		return false, err
	}
	return since.Before(closed) && (!present || c.now().Sub(closed) > lateAfter), nil
}

// epochClosed gives when an epoch ended for this user: when the next one
// began, or when the group was left. Zero while it is the current one.
func (c *Client) epochClosed(ctx context.Context, self Account, conv *conversationRecord, group []byte, epoch uint64) (time.Time, error) {
	next, err := c.epoch(ctx, self, group, epoch+1)
	if err == nil {
		return next.opened, nil
	}
	if !errors.Is(err, state.ErrNotFound) {
		return time.Time{}, fmt.Errorf("archive record: %w", err)
	}
	i := slices.IndexFunc(conv.Past, func(p pastInstance) bool {
		return string(p.Group) == string(group) && p.Epoch == epoch
	})
	switch {
	case i >= 0:
		return time.UnixMilli(conv.Past[i].Closed), nil
	case string(conv.Group) == string(group) && conv.Removed != 0:
		return time.UnixMilli(conv.Removed), nil
	}
	return time.Time{}, nil
}
