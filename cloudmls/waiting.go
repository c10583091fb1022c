package cloudmls

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
)

// maxRetryable is how many messages that could not be opened yet are remembered
// on this device.
const maxRetryable = 4096

// waitingRecord is a local record: a message that Decrypt could not open yet.
type waitingRecord struct {
	Version int    `json:"v"`
	Account string `json:"account"`
	Group   []byte `json:"group"`
	Epoch   uint64 `json:"epoch"`
}

// noteWaiting remembers that a message could not be opened yet, and forgets it
// when that is decided. It gives back an error of the disk only.
func (c *Client) noteWaiting(self Account, ref [32]byte, group []byte, epoch uint64, result error) error {
	list, err := c.waitingRefs()
	if err != nil {
		return err
	}
	name := self.String() + "\x00" + hex.EncodeToString(ref[:])
	waits := errors.Is(result, ErrNotYet)
	c.mu.Lock()
	known := list[name]
	full := len(list) >= maxRetryable
	if waits && !full {
		list[name] = true
	} else if result == nil || isNever(result) {
		delete(list, name)
	}
	c.mu.Unlock()
	cache := c.store.Cache("sdk/waiting")
	switch {
	case waits && !known && !full:
		b, err := encodeRecord(&waitingRecord{Version: recordVersion, Account: self.String(), Group: group, Epoch: epoch})
		if err == nil {
			err = cache.Put(name, b)
		}
		if err != nil {
			return fmt.Errorf("waiting messages: %w", err)
		}
	case known && (result == nil || isNever(result)):
		if err := cache.Delete(name); err != nil {
			return fmt.Errorf("waiting messages: %w", err)
		}
	}
	return nil
}

func isNever(err error) bool {
	var never *NeverError
	return errors.As(err, &never)
}

// waitingRefs gives the names of what waits, read once.
func (c *Client) waitingRefs() (map[string]bool, error) {
	c.mu.Lock()
	list := c.waiting
	c.mu.Unlock()
	if list != nil {
		return list, nil
	}
	list = map[string]bool{}
	err := c.store.Cache("sdk/waiting").ForEach(func(name string, _ []byte) error {
		list[name] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting messages: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.waiting == nil {
		c.waiting = list
	}
	return c.waiting, nil
}

// Retryable lists the refs (Plaintext.Ref) of messages for which Decrypt said
// ErrNotYet on this device, and now would not: their group or epoch is known
// since, or it is known that they never open. It is worth asking after a Sync,
// after AcceptIdentity and after Maintain, and needs no network. At most 4,096
// messages are remembered; a caller that has more tries the others again by
// itself.
func (c *Client) Retryable(ctx context.Context, self Account) ([][32]byte, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return nil, err
	}
	type message struct {
		ref [32]byte
		waitingRecord
	}
	var all []message
	err = c.store.Cache("sdk/waiting").ForEach(func(name string, b []byte) error {
		m := message{}
		if err := decodeRecord(b, &m.waitingRecord); err != nil {
			return err
		}
		ref, err := hex.DecodeString(name[max(0, len(name)-64):])
		if err != nil || len(ref) != 32 {
			return errors.New("a note is malformed")
		}
		if m.ref = [32]byte(ref); m.Account == self.String() {
			all = append(all, m)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("waiting messages: %w", err)
	}
	var now [][32]byte
	for _, m := range all {
		_, alone := c.store.Version(epochKey(self, m.Group, m.Epoch))
		decided := alone
		if !decided {
			h, err := c.history(ctx, self, m.Group)
			if err != nil {
				return nil, err
			}
			_, decided = h.bundleOf(m.Epoch)
		}
		if !decided {
			err := c.neverOpens(ctx, self, m.Group, m.Epoch)
			if err != nil && !isNever(err) {
				return nil, err
			}
			if decided = err != nil; !decided {
				if decided, err = c.removedFrom(ctx, self, m.Group); err != nil {
					return nil, err
				}
			}
		}
		if decided {
			now = append(now, m.ref)
		}
	}
	return now, nil
}

// knowsGroup tells whether a group serves or served a conversation here.
func (c *Client) knowsGroup(ctx context.Context, self Account, group []byte) (bool, error) {
	records, err := c.conversations(ctx, self)
	if err != nil {
		return false, err
	}
	for _, r := range records {
		if bytes.Equal(r.Group, group) || r.instance(group) != nil {
			return true, nil
		}
	}
	return false, nil
}
