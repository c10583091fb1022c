package cloudmls

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// silentAfter is how old a member's keys get before it is called silent.
const silentAfter = 180 * 24 * time.Hour

// stateOf makes the caller's snapshot of a record.
func stateOf(self Account, r *conversationRecord, contacts *contactsRecord, now time.Time) *ConversationState {
	s := &ConversationState{
		ID: r.ID, Kind: r.Kind, Members: rosterAccounts(r.Members), Group: bytes.Clone(r.Group), Epoch: r.Epoch, Encrypted: true,
		Removed: r.Removed != 0 || r.Left != 0, Left: r.Left != 0, Broken: r.Broken != "", PostQuantum: r.PostQuantum, HistoryDays: r.Days,
		Since: time.UnixMilli(r.Since), Updated: time.UnixMilli(r.Updated),
	}
	if s.Removed {
		s.Members = slices.DeleteFunc(s.Members, func(a Account) bool { return a == self })
	}
	for _, m := range withoutSelf(self, r.Members) {
		if m.Certified != 0 && now.Sub(time.Unix(m.Certified, 0)) >= silentAfter {
			s.Silent = append(s.Silent, m.account())
		}
	}
	for _, w := range r.Wishes {
		if w.Leave {
			s.Leaving = append(s.Leaving, w.account())
		} else {
			s.Lost = append(s.Lost, w.account())
		}
	}
	if s.Blocked = r.blocked(); s.Blocked == nil {
		s.Blocked = contacts.checkRoster(withoutSelf(self, r.Members))
	}
	return s
}

// blocked says why the account cannot take part in the conversation.
func (r *conversationRecord) blocked() error {
	switch {
	case r.Removed != 0, r.Left != 0:
		return ErrNotMember
	case r.Broken != "":
		return fmt.Errorf("%w: %s", ErrBroken, r.Broken)
	}
	return nil
}

// snapshot is stateOf with what is pinned now. That it cannot be read is no
// reason to hide a change that was made, but one to call it blocked.
func (c *Client) snapshot(ctx context.Context, self Account, r *conversationRecord) *ConversationState {
	contacts, err := c.reader(ctx, self).contacts()
	if err != nil {
		s := stateOf(self, r, &contactsRecord{}, c.now())
		s.Blocked = fmt.Errorf("contacts of %s: %w", self, err)
		return s
	}
	return stateOf(self, r, contacts, c.now())
}

// Conversation gives a conversation as this user's verified state has it, or
// ErrNoConversation. It does not Sync.
func (c *Client) Conversation(ctx context.Context, self Account, id ConversationID) (*ConversationState, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return nil, err
	}
	r, err := c.reader(ctx, self).conversation(id)
	if err != nil {
		return nil, fmt.Errorf("conversation: %w", err)
	}
	if r == nil {
		return nil, ErrNoConversation
	}
	return c.snapshot(ctx, self, r), nil
}

// conversations reads all records of the account, newest first.
func (c *Client) conversations(ctx context.Context, self Account) ([]*conversationRecord, error) {
	keys, err := c.store.List(ctx, state.TypeConversation)
	if err != nil {
		return nil, fmt.Errorf("list conversations: %w", err)
	}
	v := c.reader(ctx, self)
	var list []*conversationRecord
	for _, k := range keys {
		if k.Account != self {
			continue
		}
		r := &conversationRecord{}
		ok, err := v.read(k, r)
		if err != nil {
			return nil, fmt.Errorf("conversation: %w", err)
		}
		if ok {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b *conversationRecord) int {
		return cmp.Or(cmp.Compare(b.Since, a.Since), slices.Compare(a.ID[:], b.ID[:]))
	})
	return list, nil
}

// Conversations lists all conversations of the account, newest first.
func (c *Client) Conversations(ctx context.Context, self Account) ([]*ConversationState, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return nil, err
	}
	records, err := c.conversations(ctx, self)
	if err != nil {
		return nil, err
	}
	contacts, err := c.reader(ctx, self).contacts()
	if err != nil {
		return nil, fmt.Errorf("contacts of %s: %w", self, err)
	}
	list := make([]*ConversationState, len(records))
	for i, r := range records {
		list[i] = stateOf(self, r, contacts, c.now())
	}
	return list, nil
}

// FindGroup gives the newest group conversation with exactly these members
// (the own account may be listed or not), or ErrNoConversation. Conversations
// that the account was removed from, or that are broken, do not count. It does
// not Sync.
func (c *Client) FindGroup(ctx context.Context, self Account, members []Account) (*ConversationState, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return nil, err
	}
	people, err := others(self, members)
	if err != nil {
		return nil, err
	}
	people = append(people, self)
	slices.SortFunc(people, compareAccounts)
	records, err := c.conversations(ctx, self)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if r.Kind == KindGroup && r.blocked() == nil && slices.Equal(rosterAccounts(r.Members), people) {
			return c.snapshot(ctx, self, r), nil
		}
	}
	return nil, ErrNoConversation
}
