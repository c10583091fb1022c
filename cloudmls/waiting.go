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
	"time"
)

// maxRetryable is how many messages that could not be opened yet are remembered
// on this device. Where there are more, the oldest make room, so many at once: of
// a flood of messages that never open, none stays for ever.
const (
	maxRetryable = 4096
	makeRoom     = 256
	// unknownFor is how long after it was first tried a message is remembered
	// whose group has not become known: as long as a KeyPackage lasts that a
	// Welcome could come for.
	unknownFor = 90 * 24 * time.Hour
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
// when that is decided. It gives back an error of the disk only. What is in memory
// follows the disk: of a message that the disk did not take, the next call tries to
// note it again, and of one that the disk still has, to forget it.
func (c *Client) noteWaiting(self Account, ref [32]byte, group []byte, epoch uint64, result error) error {
	waits, over := errors.Is(result, ErrNotYet), result == nil || isNever(result)
	list, err := c.waitingRefs()
	if err != nil {
		return err
	}
	name := self.String() + "\x00" + hex.EncodeToString(ref[:])
	if _, known := c.waits(list, name); !waits && !(over && known) {
		return nil // as with nearly every message
	}
	unlock, err := c.locks.lock(context.Background(), waitingLock)
	if err != nil {
		return err
	}
	defer unlock()
	now := c.now().UnixMilli()
	n, known := c.waits(list, name)
	cache := c.store.Cache("sdk/waiting")
	switch {
	case waits && !known:
		var b []byte
		b, err = encodeRecord(&waitingRecord{Version: recordVersion, Account: self.String(), Group: group, Epoch: epoch, At: now})
		if err == nil {
			err = cache.Put(name, b)
		}
	case over && known:
		err = cache.Delete(name)
	}
	if err != nil {
		return fmt.Errorf("waiting messages: %w", err)
	}
	var oldest []string
	if waits && !known && n >= maxRetryable {
		oldest = c.longestWaiting(list, makeRoom)
	}
	c.mu.Lock()
	if waits {
		list[name] = now // on the disk it stays when it was first tried
	} else {
		delete(list, name)
	}
	c.mu.Unlock()
	return c.dropWaiting(list, oldest)
}

// waitingLock is held by whoever changes what waits, on the disk and in memory.
const waitingLock = "waiting"

// waits tells how many messages wait, and whether this one does.
func (c *Client) waits(list waitingList, name string) (n int, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, known = list[name]
	return len(list), known
}

func isNever(err error) bool {
	var never *NeverError
	return errors.As(err, &never)
}

// waitingList is what waits, by name, and when it was last tried.
type waitingList map[string]int64

// longestWaiting gives the n that were tried the longest time ago.
func (c *Client) longestWaiting(list waitingList, n int) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := slices.SortedFunc(maps.Keys(list), func(a, b string) int { return cmp.Compare(list[a], list[b]) })
	return names[:min(n, len(names))]
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
// messages are remembered, and those of a group that is unknown for 90 days; a
// caller that has more tries the others again by itself.
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
	if len(all) == 0 {
		return nil, nil
	}
	known, err := c.waitingGroups(ctx, self)
	if err != nil {
		return nil, err
	}
	var ready [][32]byte
	var over []string
	for _, m := range all {
		decided, err := known.decides(ctx, m.Group, m.Epoch)
		switch {
		case err != nil:
			return nil, err
		case decided:
			ready = append(ready, m.ref)
		case len(known.serves[string(m.Group)]) == 0 && c.now().Sub(time.UnixMilli(m.At)) >= unknownFor:
			over = append(over, self.String()+"\x00"+hex.EncodeToString(m.ref[:]))
		}
	}
	if err := c.forgetWaiting(over); err != nil {
		return nil, err
	}
	return ready, nil
}

// forgetWaiting forgets messages by name.
func (c *Client) forgetWaiting(names []string) error {
	list, err := c.waitingRefs()
	if err != nil {
		return err
	}
	unlock, err := c.locks.lock(context.Background(), waitingLock)
	if err != nil {
		return err
	}
	defer unlock()
	return c.dropWaiting(list, names)
}

// dropWaiting is forgetWaiting for whoever holds the lock.
func (c *Client) dropWaiting(list waitingList, names []string) error {
	if err := c.store.Cache("sdk/waiting").DeleteAll(names); err != nil {
		return fmt.Errorf("waiting messages: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		delete(list, name)
	}
	return nil
}

// waitingGroups is what an account knows of groups, read once for all messages.
type waitingGroups struct {
	c       *Client
	self    Account
	serves  map[string][]*conversationRecord // by group: the conversations that it serves or served
	history map[string]*historyRecord        // by group, as far as it was read
}

func (c *Client) waitingGroups(ctx context.Context, self Account) (*waitingGroups, error) {
	records, err := c.conversations(ctx, self)
	if err != nil {
		return nil, err
	}
	g := &waitingGroups{c: c, self: self, serves: map[string][]*conversationRecord{}, history: map[string]*historyRecord{}}
	for _, r := range records {
		groups := map[string]bool{string(r.Group): true}
		for _, p := range r.Past {
			groups[string(p.Group)] = true
		}
		for group := range groups {
			g.serves[group] = append(g.serves[group], r)
		}
	}
	return g, nil
}

// decides tells whether a message of an epoch opens now, or never will.
func (g *waitingGroups) decides(ctx context.Context, group []byte, epoch uint64) (bool, error) {
	if _, alone := g.c.store.Version(epochKey(g.self, group, epoch)); alone {
		return true, nil
	}
	h := g.history[string(group)]
	if h == nil {
		var err error
		if h, err = g.c.history(ctx, g.self, group); err != nil {
			return false, err
		}
		g.history[string(group)] = h
	}
	if _, bundled := h.bundleOf(epoch); bundled || epoch < h.From {
		return true, nil
	}
	for _, r := range g.serves[string(group)] {
		if r.neverOpens(group, epoch) != nil || bytes.Equal(r.Group, group) && r.Removed != 0 {
			return true, nil
		}
	}
	return false, nil
}

// knowsGroup tells whether a group serves or served a conversation here.
func (c *Client) knowsGroup(ctx context.Context, self Account, group []byte) (bool, error) {
	records, err := c.conversations(ctx, self)
	if err != nil {
		return false, err
	}
	for _, r := range records {
		if r.instance(group) != nil {
			return true, nil
		}
	}
	return false, nil
}
