package cloudmls

import (
	"context"
	"fmt"

	"github.com/cloudmls/gateway/mls"
)

// Create makes a group for a conversation that has none, with all of its members
// or not at all; errors are those of Ensure, and ErrConversationExists.
func (c *Client) Create(ctx context.Context, self Account, want Conversation) (*ConversationState, error) {
	self, members, id, err := c.wanted(ctx, self, want)
	if err != nil {
		return nil, err
	}
	if want.Kind == KindGroup && len(members) == 0 {
		return nil, ErrNobody
	}
	unlock, err := c.locks.lock(ctx, conversationLock(self, id))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := c.sync(ctx, self); err != nil {
		return nil, err
	}
	conv, err := c.reader(ctx, self).conversation(id)
	if err != nil {
		return nil, fmt.Errorf("conversation: %w", err)
	}
	if conv.of(want.Kind) != nil {
		return nil, ErrConversationExists
	}
	if conv, err = c.ensure(ctx, self, id, want, members); err != nil {
		return nil, err
	}
	return c.snapshot(ctx, self, conv), nil
}

// Add adds members to a group conversation, all of them or nobody; those who are
// in it already are ignored. Errors are those of Ensure, and ErrNoConversation.
func (c *Client) Add(ctx context.Context, self Account, id ConversationID, members []Account) (*ConversationState, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return nil, err
	}
	list, err := others(self, members)
	if err != nil {
		return nil, err
	}
	unlock, err := c.locks.lock(ctx, conversationLock(self, id))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := c.sync(ctx, self); err != nil {
		return nil, err
	}
	conv, err := c.addMissing(ctx, self, id, list, map[Account]*mls.KeyPackage{})
	if err != nil {
		return nil, err
	}
	return c.snapshot(ctx, self, conv), nil
}
