package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// Replace puts a new group in the place of the one that serves a conversation,
// with the same people, all or nobody: for a group that cannot be gone on with
// any other way. History stays readable, and all are told (SyncResult.Replaced).
// In a group conversation only a member who can follow the group can do it; the
// others take the new one because its roster adds nobody to the last one that
// they know. A dialog is replaced by Ensure, by itself, when it is broken.
func (c *Client) Replace(ctx context.Context, self Account, id ConversationID) (*ConversationState, error) {
	self, err := c.own(ctx, self)
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
	claimed := map[Account]*mls.KeyPackage{}
	var taken *takenError
	for range maxReplacements {
		was, err := c.reader(ctx, self).conversation(id)
		switch {
		case err != nil:
			return nil, fmt.Errorf("conversation: %w", err)
		case was == nil:
			return nil, ErrNoConversation
		}
		conv, err := c.replaceOnce(ctx, self, was, taken, claimed)
		if err == nil {
			return c.snapshot(ctx, self, conv), nil
		}
		var moved *movedError
		refused := isCode(err, keyapi.CodeForbidden)
		if !errors.As(err, &taken) && !errors.As(err, &moved) && !refused {
			return nil, err
		}
		if was.Kind == KindGroup && moved == nil && !refused && taken.group != nil && !bytes.Equal(taken.group, was.Group) {
			if err := c.elsewhere(ctx, self, was, err); err != nil {
				return nil, err
			}
			continue
		}
		if _, err := c.sync(ctx, self); err != nil { // an epoch was opened, or another group made
			return nil, err
		}
		if refused {
			if err := c.movedSince(ctx, self, was, err); err != nil {
				return nil, err
			}
		}
	}
	return nil, ErrBusy
}

// movedSince gives a refusal back, unless the conversation is in another epoch than
// the attempt was made in, or showed to be broken: only then another attempt may be
// taken, or says more.
func (c *Client) movedSince(ctx context.Context, self Account, was *conversationRecord, refusal error) error {
	now, err := c.reader(ctx, self).conversation(was.ID)
	switch {
	case err != nil:
		return fmt.Errorf("conversation: %w", err)
	case now != nil && now.Epoch == was.Epoch && bytes.Equal(now.Group, was.Group) && now.Broken == was.Broken && now.Removed == was.Removed:
		return fmt.Errorf("the key server does not take another group for the conversation: %w", refusal)
	}
	return nil
}

func (c *Client) replaceOnce(ctx context.Context, self Account, conv *conversationRecord, taken *takenError, claimed map[Account]*mls.KeyPackage) (*conversationRecord, error) {
	p := place{id: conv.ID, kind: conv.Kind, over: conv, replaces: conv.Group}
	if conv.Kind == KindDialog {
		p.replaces = taken.instead(conv.Group)
	}
	if conv.Kind == KindGroup {
		if err := conv.blocked(); err != nil {
			return nil, err
		}
		g, _, err := c.reader(ctx, self).group(conv.Group, conv.Epoch)
		if errors.Is(err, state.ErrNotFound) {
			return nil, c.lostState(ctx, self, conv, err)
		}
		if err != nil {
			return nil, err
		}
		if p.token, err = commitToken(g); err != nil {
			return nil, err
		}
	}
	var people []Account
	for _, m := range withoutSelf(self, conv.Members) {
		a := m.account()
		if !slices.ContainsFunc(conv.Wishes, func(w wishEntry) bool { return w.Leave && w.account() == a }) {
			people = append(people, a)
		}
	}
	for a := range claimed {
		if !slices.Contains(people, a) {
			delete(claimed, a)
		}
	}
	if err := c.claimNew(ctx, self, people, claimed, conv.PostQuantum); err != nil {
		return nil, err
	}
	return c.create(ctx, self, p, claimed)
}
