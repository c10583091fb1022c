package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// counts tells whether this key was good in an epoch that began at opened. When
// the epoch began, and when its key was replaced, devices with clocks of their own
// may have noted: a key that its owner replaced counts for an hour longer, until
// the owner's Commits end the epochs of before. But only in a group that this
// account had entered by then: whoever has stolen the key can begin one of their own
// whenever they like. Where somebody accepted another key, only what came before
// counts.
//
// entered gives when the account entered the group; it is asked in that hour only.
func (f formerKey) counts(key []byte, opened time.Time, entered func() (time.Time, error)) (bool, error) {
	until := time.UnixMilli(f.Until)
	switch {
	case !bytes.Equal(f.Key, key):
		return false, nil
	case !opened.After(until):
		return true, nil
	case !f.Rotated || opened.After(until.Add(clockSkew)):
		return false, nil
	}
	at, err := entered()
	return err == nil && !at.After(until), err
}

func formerCounts(list []formerKey, key []byte, opened time.Time, entered func() (time.Time, error)) (bool, error) {
	for _, f := range list {
		if good, err := f.counts(key, opened, entered); good || err != nil {
			return good, err
		}
	}
	return false, nil
}

// entered gives a function that tells when the account entered the group of an
// epoch, the time it was there before that not counted. Where the first epoch was
// deleted, it is the time when this one began.
func (c *Client) entered(ctx context.Context, self Account, r *epochRecord) func() (time.Time, error) {
	return func() (time.Time, error) {
		f, err := r.facts()
		if err != nil {
			return time.Time{}, err
		}
		conv, err := c.reader(ctx, self).conversation(f.conversation)
		if err != nil {
			return time.Time{}, fmt.Errorf("conversation: %w", err)
		}
		if conv == nil {
			return r.opened, nil
		}
		group, epoch := []byte(r.archive.GroupID()), uint64(r.archive.Epoch())
		var first uint64
		for _, i := range append(conv.Past, pastInstance{Group: conv.Group, JoinEpoch: conv.JoinEpoch}) {
			if bytes.Equal(i.Group, group) && i.JoinEpoch <= epoch {
				first = i.JoinEpoch
			}
		}
		record, err := c.epoch(ctx, self, group, first)
		switch {
		case errors.Is(err, state.ErrNotFound):
			return r.opened, nil
		case err != nil:
			return time.Time{}, fmt.Errorf("archive record: %w", err)
		}
		return record.opened, nil
	}
}

// overdue tells whether a former key counts until after t, and sets that right.
// Whichever device noted the time had a clock that was ahead.
func overdue(list []formerKey, t time.Time) bool {
	found := false
	for i := range list {
		if list[i].Until > t.UnixMilli() {
			list[i].Until, found = t.UnixMilli(), true
		}
	}
	return found
}

// maintainFormer keeps keys that were replaced from counting in epochs to come:
// what a device noted whose clock was ahead is set right by one whose clock the
// key server agrees with. Where no time can be trusted it waits.
func (c *Client) maintainFormer(ctx context.Context, self Account) error {
	ahead := c.now().Add(clockSkew)
	v := c.reader(ctx, self)
	contacts, err := v.contacts()
	if err != nil {
		return err
	}
	id := &identityRecord{}
	if _, err := v.read(identityKey(self), id); err != nil {
		return err
	}
	if !contacts.overdue(ahead) && !overdue(id.Former, ahead) {
		return nil
	}
	_, _, err = c.trustedTime(ctx, self)
	var clocks *ClockError
	if errors.As(err, &clocks) {
		return nil // neither clock is believed; a later Maintain looks again
	}
	if err != nil {
		return err
	}
	t := c.now()
	return c.update(ctx, self, func(_ *state.Tx, v *view) error {
		contacts, err := v.contacts()
		if err != nil {
			return err
		}
		if contacts.overdue(t) {
			if err := v.put(contactsKey(self), contacts); err != nil {
				return err
			}
		}
		id := &identityRecord{}
		if ok, err := v.read(identityKey(self), id); err != nil || !ok || !overdue(id.Former, t) {
			return err
		}
		return v.put(identityKey(self), id)
	})
}

func (r *contactsRecord) overdue(t time.Time) bool {
	found := false
	for i := range r.Pins {
		found = overdue(r.Pins[i].Former, t) || found
	}
	return found
}
