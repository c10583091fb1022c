package cloudmls

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// rotatedLately is how old a rotation may be that a new device tells of.
const rotatedLately = 30 * 24 * time.Hour

// rotationsRecord is a local record, per account: which rotations of contacts'
// identity keys this device has told of.
type rotationsRecord struct {
	Version int             `json:"v"`
	Told    []rotationEntry `json:"told"`
}

type rotationEntry struct {
	Platform string `json:"platform"`
	ID       string `json:"id"`
	Rotated  int64  `json:"rotated"` // as in the pin: which rotation
	// Said: a Sync of the caller's has told of it, too.
	Said bool `json:"said,omitempty"`
}

// noteRotations makes a notice of each pin that has followed a signed rotation and
// that this device has not told of, whichever device followed, and in whichever
// call: whoever had the key before could sign it, and what people had compared is
// void. That it could not be noted stops nothing; the next call makes up for it.
func (c *Client) noteRotations(ctx context.Context, self Account) {
	if _, err := c.tellRotations(ctx, self, false); err != nil {
		c.warn(ctx, "what is to be told of identity keys was not noted", err)
	}
}

// tellRotations is noteRotations, and where said is set gives those notices that
// no call before has given.
func (c *Client) tellRotations(ctx context.Context, self Account, said bool) ([]Notice, error) {
	contacts, err := c.knownContacts(ctx, self)
	if err != nil {
		return nil, fmt.Errorf("contacts of %s: %w", self, err)
	}
	if !slices.ContainsFunc(contacts.Pins, func(p pinEntry) bool { return p.Rotated != 0 }) {
		return nil, nil
	}
	unlock, err := c.locks.lock(context.WithoutCancel(ctx), "rotations\x00"+self.String())
	if err != nil {
		return nil, err
	}
	defer unlock()
	cache, before := c.store.Cache("sdk/rotations"), &rotationsRecord{}
	b, err := cache.Get(self.String())
	if err == nil && b != nil {
		err = decodeRecord(b, before)
	}
	if err != nil {
		return nil, fmt.Errorf("rotations told: %w", err)
	}
	told := make(map[Account]rotationEntry, len(before.Told))
	for _, e := range before.Told {
		told[Account{Platform: e.Platform, ID: e.ID}] = e
	}
	now, next := c.now(), &rotationsRecord{Version: recordVersion}
	var fresh, give []Notice
	for i := range contacts.Pins {
		p := &contacts.Pins[i]
		if p.Rotated == 0 {
			continue
		}
		e := rotationEntry{Platform: p.Platform, ID: p.ID, Rotated: p.Rotated}
		switch known := told[p.account()]; {
		case known.Rotated == p.Rotated:
			e.Said = known.Said
		case p.Verified != 0, b == nil && now.Sub(time.UnixMilli(p.Rotated)) > rotatedLately:
			e.Said = true // people have compared the new key, or it is an old story to them
		default:
			fresh = append(fresh, p.tell(now))
		}
		if said && !e.Said {
			give, e.Said = append(give, p.tell(now)), true
		}
		next.Told = append(next.Told, e)
	}
	if slices.Equal(before.Told, next.Told) {
		return nil, nil
	}
	if err := c.keepNotices(ctx, self, fresh); err != nil {
		return nil, err
	}
	if b, err = encodeRecord(next); err == nil {
		err = cache.Put(self.String(), b)
	}
	if err != nil {
		return nil, fmt.Errorf("rotations told: %w", err)
	}
	return give, nil
}

// tell says for people that a signed rotation brought the pin's key.
func (p *pinEntry) tell(now time.Time) Notice {
	n := Notice{At: time.UnixMilli(min(p.Rotated, now.UnixMilli())), Kind: NoticeRotated, Account: p.account()}
	n.Text = fmt.Sprintf("%s replaced their identity key, and the key before has signed the new one", p.ID)
	if p.Compared != 0 {
		n.Text += "; what you had compared does not count any more: compare the new one"
	} else {
		n.Text += "; whoever stole the key before could do that: compare the new one"
	}
	return n
}
