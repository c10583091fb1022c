package cloudmls

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// maxRetryable is how many messages that could not be opened yet are remembered
// on this device. Where there are more, the oldest make room, so many at once: of
// a flood of messages that never open, none stays for ever.
const (
	maxRetryable = 4096
	makeRoom     = 256
)

// waitingRecord is a local record: a message that Decrypt could not open yet.
type waitingRecord struct {
	Version int    `json:"v"`
	Account string `json:"account"`
	Group   []byte `json:"group"`
	Epoch   uint64 `json:"epoch"`
	At      int64  `json:"at,omitempty"` // when it was first tried
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
	now := c.now().UnixMilli()
	c.mu.Lock()
	_, known := list[name]
	var dropped []string
	if waits {
		if !known && len(list) >= maxRetryable {
			dropped = list.oldest(makeRoom)
		}
		list[name] = now // on the disk it stays when it was first tried
	} else if result == nil || isNever(result) {
		delete(list, name)
	}
	c.mu.Unlock()
	cache := c.store.Cache("sdk/waiting")
	switch {
	case waits && !known:
		b, err := encodeRecord(&waitingRecord{Version: recordVersion, Account: self.String(), Group: group, Epoch: epoch, At: now})
		if err == nil {
			err = errors.Join(cache.DeleteAll(dropped), cache.Put(name, b))
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

// waitingList is what waits, by name, and when it was last tried.
type waitingList map[string]int64

// oldest takes out the n that were tried the longest time ago.
func (l waitingList) oldest(n int) []string {
	names := slices.SortedFunc(maps.Keys(l), func(a, b string) int { return cmp.Compare(l[a], l[b]) })
	names = names[:min(n, len(names))]
	for _, name := range names {
		delete(l, name)
	}
	return names
}

// waitingRefs gives what waits, read once.
func (c *Client) waitingRefs() (waitingList, error) {
	c.mu.Lock()
	list := c.waiting
	c.mu.Unlock()
	if list != nil {
		return list, nil
	}
	list = waitingList{}
	err := c.store.Cache("sdk/waiting").ForEach(func(name string, b []byte) error {
		var r waitingRecord
		if err := decodeRecord(b, &r); err != nil {
			return err
		}
		list[name] = r.At
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
