package cloudmls

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/mls"
)

// openEpoch writes everything that belongs to a group's new epoch: the live
// group, the archive record, the conversation, the sender object, the pins. It
// is part of the one transaction that makes the epoch ours.
func (v *view) openEpoch(conv *conversationRecord, g *mls.Group, signature mls.SignaturePrivateKey, now time.Time) error {
	members, err := roster(g.Members())
	if err != nil {
		return fmt.Errorf("roster: %w", err)
	}
	live, err := g.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode group: %w", err)
	}
	archive, err := g.Archive()
	if err != nil {
		return fmt.Errorf("make archive record: %w", err)
	}
	epoch, err := encodeEpoch(now, archive)
	if err != nil {
		return err
	}
	v.follow(conv, members, uint64(g.Epoch()))
	conv.PostQuantum = conv.PostQuantum || g.CipherSuite() == suitePQ
	conv.Group, conv.Epoch = []byte(g.ID()), uint64(g.Epoch())
	conv.Members, conv.Updated = members, now.UnixMilli()
	v.putRaw(groupKey(v.self, conv.Group), live)
	v.putRaw(epochKey(v.self, conv.Group, conv.Epoch), epoch)
	sender := &senderRecord{Version: recordVersion, Epoch: conv.Epoch, SignatureKey: signature}
	if err := v.put(senderKey(v.self, conv.Group), sender); err != nil {
		return err
	}
	if err := v.put(conversationKey(v.self, conv.ID), conv); err != nil {
		return err
	}
	return v.pinRoster(members, now)
}

// follow carries over what is known of members who stay, and forgets the wishes
// of those who were let in again or are gone.
func (v *view) follow(conv *conversationRecord, members []memberEntry, epoch uint64) {
	for i := range members {
		m := &members[i]
		before, ok := rosterFind(conv.Members, m.account())
		switch {
		case v.entered:
		case !ok, v.vouched[m.account()], v.added[m.account()]:
			m.Joined = epoch
		default:
			m.Joined = before.Joined
		}
	}
	conv.Wishes = slices.DeleteFunc(conv.Wishes, func(w wishEntry) bool {
		m, ok := rosterFind(members, w.account())
		return !ok || m.Joined == epoch
	})
}

// leaveGroup drops what only a member of the current epoch needs. Archive
// records stay, and so does the sender object, emptied: its counter must go on
// where the account comes back, or the user's other devices would take the new
// object for a roll-back of the old one.
func (v *view) leaveGroup(group []byte, epoch uint64) error {
	v.delete(groupKey(v.self, group))
	return v.put(senderKey(v.self, group), &senderRecord{Version: recordVersion, Epoch: epoch, NextApp: mls.MaxGeneration, NextHandshake: maxHandshakes})
}

// epochCacheSize is how many parsed archive records a client keeps in memory.
const epochCacheSize = 64

// epochCache holds parsed archive records; they never change. The zero value
// is ready to use.
type epochCache struct {
	mu    sync.Mutex
	items map[state.Key]*epochRecord
	order []state.Key // oldest first
}

func (c *epochCache) get(k state.Key) *epochRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.items[k]
}

func (c *epochCache) put(k state.Key, r *epochRecord) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.items == nil {
		c.items = make(map[state.Key]*epochRecord)
	}
	if c.items[k] != nil {
		return
	}
	if len(c.order) >= epochCacheSize {
		delete(c.items, c.order[0])
		c.order = c.order[1:]
	}
	c.items[k] = r
	c.order = append(c.order, k)
}

// epoch gives the record of an epoch, fetching it on demand; state.ErrNotFound
// if the verified state has none.
func (c *Client) epoch(ctx context.Context, self Account, group []byte, n uint64) (*epochRecord, error) {
	k := epochKey(self, group, n)
	if r := c.epochs.get(k); r != nil {
		return r, nil
	}
	b, err := c.store.Get(ctx, k)
	if err != nil {
		return nil, err
	}
	r, err := decodeEpoch(b)
	if err != nil {
		return nil, err
	}
	if string(r.archive.GroupID()) != string(group) || uint64(r.archive.Epoch()) != n {
		return nil, fmt.Errorf("epoch record: of another epoch")
	}
	c.epochs.put(k, r)
	return r, nil
}
