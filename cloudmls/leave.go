package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

var errNotLeft = errors.New("only a group can be left")

// Leave takes the own account out of a group conversation. Nobody can remove its
// own leaf (RFC 9420 section 12.4), so the others are sent a proposal, and the
// next of them who opens an epoch carries it out; where a Commit without it is
// faster, it is proposed again by a later Sync. From the moment that Leave
// returns nothing is encrypted in the conversation, on any device of the user.
// What could be read before still can. Leaving twice is harmless.
func (c *Client) Leave(ctx context.Context, self Account, id ConversationID) error {
	self, err := c.own(ctx, self)
	if err != nil {
		return err
	}
	unlock, err := c.locks.lock(ctx, conversationLock(self, id))
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := c.sync(ctx, self); err != nil {
		return err
	}
	conv, err := c.reader(ctx, self).conversation(id)
	switch {
	case err != nil:
		return fmt.Errorf("conversation: %w", err)
	case conv == nil:
		return ErrNoConversation
	case conv.Kind != KindGroup:
		return errNotLeft
	}
	return c.proposeLeaving(ctx, self, id)
}

// askToLeave leaves a group that this account cannot follow, and so cannot make
// proposals in: the others are asked in the other way. Where a sibling device was
// let in again meanwhile it does nothing.
func (c *Client) askToLeave(ctx context.Context, self Account, conv *conversationRecord) error {
	err := c.sendRequest(ctx, self, conv, repairLeave, func(v *view, now *conversationRecord) error {
		return c.leave(v, now, &SyncResult{})
	})
	if undeliverable(err) {
		return c.forget(ctx, self, conv)
	}
	if err != nil {
		return fmt.Errorf("ask to be removed: %w", err)
	}
	return nil
}

// forget ends the own part in a conversation that nobody else can be asked in, as
// long as it is as it was: a sibling device that has added somebody meanwhile, or
// was let in again, has made others of whom it must be asked.
func (c *Client) forget(ctx context.Context, self Account, was *conversationRecord) error {
	return c.update(ctx, self, func(_ *state.Tx, v *view) error {
		conv, err := v.conversation(was.ID)
		if err != nil || conv == nil || conv.Removed != 0 {
			return err
		}
		if !bytes.Equal(conv.Group, was.Group) || conv.Epoch != was.Epoch || conv.Broken != was.Broken {
			return &movedError{}
		}
		return c.leave(v, conv, &SyncResult{})
	})
}

// proposeLeaving sends the proposal in the current epoch, and again where a
// Commit was faster. Where there is nobody who could carry it out, or this account
// cannot make one, it leaves in the other ways. The caller holds the conversation's
// lock.
func (c *Client) proposeLeaving(ctx context.Context, self Account, id ConversationID) error {
	for range maxAttempts {
		conv, err := c.reader(ctx, self).conversation(id)
		if err != nil {
			return fmt.Errorf("conversation: %w", err)
		}
		switch {
		case conv == nil, conv.Removed != 0:
			return nil
		case conv.Broken == "" && conv.Left != 0 && conv.LeftEpoch >= conv.Epoch:
			return nil
		case conv.Broken != "":
			if err = c.askToLeave(ctx, self, conv); err == nil {
				continue // it is out, or in the group again
			}
		case len(conv.Members) == 1:
			err = c.forget(ctx, self, conv)
		default:
			err = c.proposeLeavingOnce(ctx, self, conv)
		}
		if conv.Broken == "" && isCode(err, keyapi.CodeInstanceConflict) {
			if err := c.elsewhere(ctx, self, conv, err); err != nil {
				return err
			}
			continue
		}
		var moved *movedError
		if !errors.As(err, &moved) {
			return err
		}
		if _, err := c.sync(ctx, self); err != nil {
			return fmt.Errorf("follow the faster Commit: %w", err)
		}
	}
	return ErrBusy
}

func (c *Client) proposeLeavingOnce(ctx context.Context, self Account, conv *conversationRecord) error {
	generation, err := c.reserveHandshake(ctx, self, conv)
	if err != nil {
		return err
	}
	r := c.reader(ctx, self)
	g, _, err := r.group(conv.Group, conv.Epoch)
	if err != nil {
		return err
	}
	if uint64(g.Epoch()) != conv.Epoch {
		return &movedError{}
	}
	read, err := r.get(groupKey(self, conv.Group))
	if err != nil {
		return err
	}
	guard, err := c.reuseGuard(conv.Group, conv.Epoch)
	if err != nil {
		return err
	}
	crashpoint.Once("handshake generation", self, conv.Group, conv.Epoch, generation)
	m, err := g.Propose(&mls.Remove{Removed: g.OwnLeaf()}, mls.ProposeOptions{Padding: padme, Generation: &generation, ReuseGuard: guard})
	if err != nil {
		return fmt.Errorf("make proposal: %w", err)
	}
	b, err := m.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode proposal: %w", err)
	}
	live, err := g.MarshalBinary() // with the proposal, which a Commit may refer to
	if err != nil {
		return fmt.Errorf("encode group: %w", err)
	}
	err = c.sendNotice(ctx, self, c.notice(self, conv, b), func(v *view, now *conversationRecord) error {
		if string(now.Group) != string(conv.Group) || now.Epoch != conv.Epoch {
			return &movedError{}
		}
		stored, err := v.get(groupKey(self, conv.Group))
		if err != nil {
			return err
		}
		if !bytes.Equal(stored, read) && !bytes.Equal(stored, live) { // live: one of several who are told one by one was
			return &movedError{} // a sibling device keeps a proposal there that came meanwhile
		}
		if now.Left == 0 {
			now.Left = c.now().UnixMilli()
		}
		now.LeftEpoch = conv.Epoch
		v.putRaw(groupKey(self, conv.Group), live)
		inbox, err := v.inbox()
		if err != nil {
			return err
		}
		inbox.remember([]ConversationID{now.ID})
		if err := v.put(inboxKey(self), inbox); err != nil {
			return err
		}
		return v.put(conversationKey(self, now.ID), now)
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return moved(err)
}
