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
	"strings"
)

// maintainHistory deletes what is due of an account's history, packs the rest,
// and makes this device forget what was deleted, by whichever device.
func (c *Client) maintainHistory(ctx context.Context, self Account) error {
	unlock, err := c.locks.lock(ctx, "history\x00"+self.String())
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := c.store.Refresh(ctx); err != nil {
		return err
	}
	failed := c.deleteHistory(ctx, self)
	records, err := c.conversations(ctx, self)
	if err != nil {
		return errors.Join(failed, err)
	}
	for _, conv := range records {
		for _, i := range conv.instances() {
			if err := c.packHistory(ctx, self, i); err != nil {
				failed = errors.Join(failed, err)
			}
			if ctx.Err() != nil {
				return failed
			}
		}
	}
	return errors.Join(failed, c.forgetDeleted(ctx, self, records))
}

// deleteHistory deletes what is due, if the time can be trusted.
func (c *Client) deleteHistory(ctx context.Context, self Account) error {
	records, err := c.conversations(ctx, self)
	if err != nil {
		return err
	}
	var limited []*instance
	for _, conv := range records {
		for _, i := range conv.instances() {
			if i.days != 0 {
				limited = append(limited, i)
			}
		}
	}
	if len(limited) == 0 {
		return nil
	}
	t, steady, err := c.trustedTime(ctx, self)
	if err != nil || !steady {
		return err
	}
	var failed error
	for _, i := range limited {
		if i.open {
			if err := c.endIdle(ctx, self, i, t); err != nil && !errors.Is(err, ErrNotMember) && !errors.Is(err, ErrBroken) {
				failed = errors.Join(failed, err)
			}
		}
		if err := c.purgeHistory(ctx, self, i, t); err != nil {
			failed = errors.Join(failed, err)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return failed
}

// Scrubber is a LocalStore that can make sure that values which were deleted or
// replaced are not to be found in it any more. It is called after archive keys
// were destroyed, and by SignOut.
type Scrubber interface {
	Scrub() error
}

// forgetDeleted removes what this device keeps of deleted epochs in memory and
// on its disk, if that was not done yet.
func (c *Client) forgetDeleted(ctx context.Context, self Account, records []*conversationRecord) error {
	noted := c.store.Cache("sdk/deleted")
	var told []ConversationID
	news := map[string]*historyRecord{} // by group
	for _, conv := range records {
		found := false
		for _, i := range conv.instances() {
			if i.days == 0 {
				continue
			}
			h, err := c.history(ctx, self, i.group)
			if err != nil {
				return err
			}
			b, err := noted.Get(blockName(self, i.group))
			if err != nil {
				return fmt.Errorf("deleted history: %w", err)
			}
			if !bytes.Equal(b, h.deleted()) {
				news[hex.EncodeToString(i.group)], found = h, true
			}
		}
		if found {
			told = append(told, conv.ID)
		}
	}
	if len(news) == 0 {
		return nil
	}
	c.epochs.forget()
	if err := c.forgetSeen(self, news); err != nil {
		return err
	}
	if s, ok := c.o.Store.(Scrubber); ok {
		if err := s.Scrub(); err != nil {
			return fmt.Errorf("clean local store: %w", err)
		}
	}
	for group, h := range news {
		raw, err := hex.DecodeString(group)
		if err != nil {
			return err
		}
		if err := noted.Put(blockName(self, raw), h.deleted()); err != nil {
			return fmt.Errorf("deleted history: %w", err)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range told {
		if !slices.Contains(c.deleted, id) {
			c.deleted = append(c.deleted, id)
		}
	}
	return nil
}

// deleted is what a device notes of what it has forgotten; nil before anything
// was deleted.
func (h *historyRecord) deleted() []byte {
	if h.From == 0 && h.Dropped == 0 {
		return nil
	}
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, h.From), h.Dropped)
}

// forgetSeen drops what is remembered of messages of deleted epochs.
func (c *Client) forgetSeen(self Account, deleted map[string]*historyRecord) error {
	seen := c.store.Cache("sdk/seen")
	prefix := self.Platform + "\x00" + self.ID + "\x00"
	var gone []string
	err := seen.ForEach(func(name string, _ []byte) error {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			return nil
		}
		group, place, _ := strings.Cut(rest, "/")
		epoch, _, _ := strings.Cut(place, "/")
		n, err := strconv.ParseUint(epoch, 10, 64)
		if h := deleted[group]; err == nil && h != nil && n < h.From {
			gone = append(gone, name)
		}
		return nil
	})
	if err == nil {
		err = seen.DeleteAll(gone)
	}
	if err != nil {
		return fmt.Errorf("seen messages: %w", err)
	}
	return nil
}

// DeletedHistory gives the conversations of which this Client found, in
// Maintain and since it was asked last, that messages cannot be opened any more
// because history is kept for a limited time. What an application keeps of these
// messages it has to delete by itself; which they are, Decrypt says
// (NeverDeleted).
func (c *Client) DeletedHistory() []ConversationID {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.deleted
	c.deleted = nil
	return list
}
