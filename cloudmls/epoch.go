package cloudmls

import (
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/mls"
)

// openEpoch writes everything that belongs to a group's new epoch: the live
// group, the archive record, the conversation, the sender object, the pins. It
// is part of the one transaction that makes the epoch ours.
func (v *view) openEpoch(conv *conversationRecord, g *mls.Group, signature mls.SignaturePrivateKey, now time.Time) error {
	members, err := v.certs.roster(g.Members())
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
	bound, err := boundTo(g)
	if err != nil {
		return err
	}
	v.follow(conv, members, uint64(g.Epoch()))
	conv.PostQuantum = conv.PostQuantum || g.CipherSuite() == suitePQ
	conv.Group, conv.Epoch, conv.Days = []byte(g.ID()), uint64(g.Epoch()), bound.days
	conv.Members, conv.Updated = members, now.UnixMilli()
	v.putRaw(groupKey(v.self, conv.Group), live)
	v.putEpoch(epochKey(v.self, conv.Group, conv.Epoch), epoch, bound.days != 0)
	sender := &senderRecord{Version: recordVersion, Epoch: conv.Epoch, SignatureKey: signature}
	if err := v.put(senderKey(v.self, conv.Group), sender); err != nil {
		return err
	}
	if err := v.put(conversationKey(v.self, conv.ID), conv); err != nil {
		return err
	}
	if err := v.unstageOf(conv.ID, conv.Group); err != nil {
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
