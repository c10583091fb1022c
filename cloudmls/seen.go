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
	place := placeName(self, group, p.Epoch, app.Sender, app.Generation)
	unlock, err := c.locks.lock(ctx, "place\x00"+place) // of two at once, one is the first
	if err != nil {
		return err
	}
	defer unlock()
	seen := c.store.Cache("sdk/seen").Entry(place)
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
		} else {
			p.Warnings = append(p.Warnings, arrival(b[40]).warnings()...)
		}
		return nil
	}
	p.FirstSeen = c.now()
	a, err := c.arrival(ctx, self, group, r, p)
	if err != nil {
		return err
	}
	b = append(binary.BigEndian.AppendUint64(p.Ref[:], uint64(p.FirstSeen.UnixMilli())), byte(a))
	p.Warnings = append(p.Warnings, a.warnings()...)
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

// arrival says when a message came, as far as this device can tell. It is part of
// what devices have stored.
type arrival byte

const (
	arrivedInTime arrival = 0
	arrivedLate   arrival = 1
	arrivedAway   arrival = 2 // this device was away, and cannot tell
)

func (a arrival) warnings() []Warning {
	switch a {
	case arrivedInTime:
		return nil
	case arrivedAway:
		return []Warning{WarningAway}
	}
	return []Warning{WarningLate}
}

// arrival tells whether a message first seen now should have been seen before:
// its epoch closed more than 14 days ago, or its sender has left since, and
// this device was there when the epoch closed. Of what happened before, a new
// device cannot tell, nor can one that was away when the 14 days ended (see
// presence.go). A sender who has left is no question of time.
func (c *Client) arrival(ctx context.Context, self Account, group []byte, r *epochRecord, p *Plaintext) (arrival, error) {
	conv, err := c.knownConversation(ctx, self, p.Conversation)
	if err != nil {
		return arrivedInTime, fmt.Errorf("conversation: %w", err)
	}
	if conv == nil {
		return arrivedInTime, nil
	}
	m, present := rosterFind(conv.Members, p.Sender)
	present = present && bytes.Equal(m.IdentityKey, p.IdentityKey) // else that leaf was revoked
	if string(conv.Group) == string(group) && m.Joined > p.Epoch {
		present = false // that leaf was removed; the account came back with another
	}
	old := c.now().Sub(r.opened) > lateAfter
	if present && !old {
		return arrivedInTime, nil
	}
	closed, err := c.epochClosed(ctx, self, conv, group, p.Epoch)
	if err != nil || closed.IsZero() {
		return arrivedInTime, err
	}
	since, err := c.deviceSince()
	if err != nil {
		return arrivedInTime, err
	}
	switch {
	case !since.Before(closed):
		return arrivedInTime, nil
	case !present:
		return arrivedLate, nil
	case c.now().Sub(closed) <= lateAfter:
		return arrivedInTime, nil
	}
	away, err := c.wasAway(self, closed.Add(lateAfter))
	if err != nil || !away {
		return arrivedLate, err
	}
	return arrivedAway, nil
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
