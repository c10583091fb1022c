package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

const (
	// renewBefore is how long before its certificate ends a leaf is renewed, in
	// groups that are silent too.
	renewBefore = 30 * 24 * time.Hour
	// renewAtOnce bounds what one Maintain commits.
	renewAtOnce = 256
)

// leafAge is how old the keys of the account's leaf are, from when this account
// had them in the group. Those of the future were made by a device whose clock was
// wrong: nobody knows, so they are as old as can be.
func (c *Client) leafAge(self Account, conv *conversationRecord) time.Duration {
	now := c.now()
	made := time.UnixMilli(conv.Updated)
	if m, ok := rosterFind(conv.Members, self); ok && m.Certified != 0 {
		made = time.Unix(m.Certified, 0).Add(clockSkew)
		if since := time.UnixMilli(conv.Since); since.After(made) && !since.After(now) {
			made = since // a KeyPackage that waited was nobody's leaf
		}
	}
	if age := now.Sub(made); age >= -clockAgreement {
		return age
	}
	return math.MaxInt64
}

// renewable tells whether the account's leaf is to be renewed although nobody
// writes: it was entered by a KeyPackage that others may know, shows a former
// identity key, or has a certificate that ends soon.
func (c *Client) renewable(self Account, id *identityRecord, conv *conversationRecord) bool {
	if conv.blocked() != nil || conv.Left != 0 {
		return false
	}
	m, ok := rosterFind(conv.Members, self)
	if !ok {
		return false
	}
	ends := time.Unix(m.Certified, 0).Add(clockSkew + keyPackageLifetime)
	return conv.Renew || !id.is(m.IdentityKey) || m.Certified != 0 && !c.now().Before(ends.Add(-renewBefore))
}

// renew commits fresh keys of the account's leaf, unless it is not wanted any
// more once the conversation is locked.
func (c *Client) renew(ctx context.Context, self Account, id ConversationID, wanted func(*conversationRecord) bool) error {
	unlock, err := c.locks.lock(ctx, conversationLock(self, id))
	if err != nil {
		return err
	}
	defer unlock()
	_, err = c.commit(ctx, self, id, func(conv *conversationRecord) (*change, error) {
		if !wanted(conv) {
			return nil, nil
		}
		return &change{renew: true}, nil
	})
	return err
}

// renewJoined renews the leaves that were entered through a last-resort
// KeyPackage, or one of a former identity key, at once. Where it fails, the next
// message or Maintain does it.
func (c *Client) renewJoined(ctx context.Context, self Account, joined []ConversationID) {
	for _, id := range joined {
		conv, err := c.reader(ctx, self).conversation(id)
		if err == nil && conv != nil && conv.Renew && conv.blocked() == nil {
			err = c.renew(ctx, self, id, func(now *conversationRecord) bool { return now.Renew })
		}
		if err != nil {
			c.warn(ctx, "keys were not refreshed after joining", err)
		}
	}
}

// Maintain does what is due without anybody writing: it finishes a move of the
// state or a rotation that was cut off, refills and replaces KeyPackages, and renews the keys of the user's
// leaves, by a Commit in each group, before their certificates end. It deletes
// history that is kept for a limited time (*ClockError: it does not know what
// time it is), and packs the archive records of past months. Calling it
// once an hour or so is enough. It goes on after a failure; the error tells all
// that failed.
func (c *Client) Maintain(ctx context.Context) error {
	if err := c.usable(); err != nil {
		return err
	}
	moved := c.store.ResumeKnownMove(ctx) // first: the store that was left may be gone for good
	if _, err := c.store.Refresh(ctx); err != nil {
		return fmt.Errorf("maintain: %w", errors.Join(moved, err))
	}
	failed := []error{moved, c.ResumeRotation(ctx, nil)}
	accounts, err := c.Accounts(ctx)
	if err != nil {
		return fmt.Errorf("maintain: %w", err)
	}
	left := renewAtOnce
	for _, self := range accounts {
		if err := c.lookAtPool(ctx, self, false); err != nil {
			failed = append(failed, fmt.Errorf("KeyPackages of %s: %w", self, err))
		}
		n, err := c.renewDue(ctx, self, left)
		left -= n
		if err != nil {
			failed = append(failed, fmt.Errorf("groups of %s: %w", self, err))
		}
		if err := c.maintainFormer(ctx, self); err != nil {
			failed = append(failed, fmt.Errorf("identity keys of %s: %w", self, err))
		}
		if err := c.maintainHistory(ctx, self); err != nil {
			failed = append(failed, fmt.Errorf("history of %s: %w", self, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("maintain: %w", err)
	}
	return nil
}

// renewDue renews up to limit leaves of an account, and tells how many it tried.
func (c *Client) renewDue(ctx context.Context, self Account, limit int) (n int, err error) {
	id, err := c.identity(ctx, self)
	if err != nil || id == nil {
		return 0, err
	}
	records, err := c.conversations(ctx, self)
	if err != nil {
		return 0, err
	}
	due := func(conv *conversationRecord) bool { return c.renewable(self, id, conv) }
	records = slices.DeleteFunc(records, func(r *conversationRecord) bool { return !due(r) })
	var failed []error
	for _, r := range records[:min(len(records), limit)] {
		if ctx.Err() != nil {
			return n, ctx.Err()
		}
		n++
		if err := c.renew(ctx, self, r.ID, due); err != nil && !errors.Is(err, ErrNotMember) {
			failed = append(failed, fmt.Errorf("renew keys: %w", err))
		}
	}
	return n, errors.Join(failed...)
}
