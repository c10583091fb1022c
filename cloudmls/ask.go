package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// askToRejoin tells the others that this account cannot follow its group any
// more. The caller holds the conversation's lock.
func (c *Client) askToRejoin(ctx context.Context, self Account, conv *conversationRecord) error {
	err := c.sendRequest(ctx, self, conv, reasonOf(conv.BrokenKind), func(v *view, now *conversationRecord) error {
		now.Asked = c.now().UnixMilli()
		return v.put(conversationKey(self, now.ID), now)
	})
	if err != nil {
		return fmt.Errorf("ask to be let in again: %w", err)
	}
	return nil
}

// sendRequest sends a repair request, and changes what note says in the same
// step. Nothing happens where the conversation is whole meanwhile.
func (c *Client) sendRequest(ctx context.Context, self Account, conv *conversationRecord, why repairReason, note func(*view, *conversationRecord) error) error {
	id, err := c.identity(ctx, self)
	if err != nil {
		return err
	}
	if id == nil {
		return ErrNoAccount
	}
	r := &repairRequest{
		reason: why, origin: c.o.Origin, account: self,
		conversation: conv.ID, group: conv.Group, epoch: conv.Epoch,
	}
	copy(r.commit[:], conv.BrokenCommit)
	s := c.notice(self, conv, r.sign(id.private()))
	still := func(v *view, now *conversationRecord) error {
		if now.Broken == "" || !slices.Equal(now.Group, conv.Group) {
			return errNothing // a sibling device was let in meanwhile
		}
		return note(v, now)
	}
	err = c.sendNotice(ctx, self, s, still)
	var p *keyapi.Problem
	if errors.As(err, &p) && p.Code == keyapi.CodeInstanceConflict && p.Instance != nil {
		// The group was replaced by one that we were not let into.
		r.serving = p.Instance.Group
		s.Group, s.Epoch, s.Notice = r.serving, 0, r.sign(id.private())
		err = c.sendNotice(ctx, self, s, still)
	}
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}

// notice makes the submission of a message for the other members.
func (c *Client) notice(self Account, conv *conversationRecord, message []byte) *keyapi.CommitSubmission {
	s := &keyapi.CommitSubmission{
		Conversation: conv.ID[:], Kind: conv.Kind, Sender: self, Group: conv.Group, Epoch: conv.Epoch,
		Notice: message, Recipients: rosterAccounts(withoutSelf(self, conv.Members)),
	}
	if conv.Kind != KindGroup {
		s.Pair = rosterAccounts(conv.Members)
	}
	return s
}

// sendNotice submits a notice together with what note changes. Where one
// recipient cannot be reached, for the account is gone or its inbox full, the
// others are told one by one.
func (c *Client) sendNotice(ctx context.Context, self Account, s *keyapi.CommitSubmission, note func(*view, *conversationRecord) error) error {
	send := func(to []Account) error {
		one := *s
		one.Recipients = to
		if c.apart.Load() {
			return c.sendNoticeApart(ctx, self, &one, note)
		}
		err := c.together(ctx, self, func(tx *state.Tx, v *view) error {
			conv, err := v.conversation(ConversationID(s.Conversation))
			if err != nil {
				return err
			}
			if conv == nil || conv.Removed != 0 {
				return errNothing
			}
			if err := note(v, conv); err != nil {
				return err
			}
			return tx.SetCommit(one)
		})
		if errors.Is(err, keyapi.ErrSplit) {
			return c.sendNoticeApart(ctx, self, &one, note)
		}
		return err
	}
	err := send(s.Recipients)
	if len(s.Recipients) == 1 || !undeliverable(err) {
		return err
	}
	sent := false
	for _, a := range s.Recipients[:min(len(s.Recipients), maxNoticedSingly)] {
		switch e := send([]Account{a}); {
		case e == nil:
			sent = true
		case !undeliverable(e):
			return e
		}
	}
	if sent {
		return nil
	}
	return err
}

// sendNoticeApart submits a notice where deliveries and objects are apart, and
// then changes what note says. One that was sent and not noted is sent again:
// the second one says what the first did.
func (c *Client) sendNoticeApart(ctx context.Context, self Account, s *keyapi.CommitSubmission, note func(*view, *conversationRecord) error) error {
	noted := func(v *view) error {
		conv, err := v.conversation(ConversationID(s.Conversation))
		if err != nil {
			return err
		}
		if conv == nil || conv.Removed != 0 {
			return errNothing
		}
		return note(v, conv)
	}
	if err := noted(c.reader(ctx, self)); err != nil { // nothing is sent for what is void already
		return err
	}
	if err := c.submitAlone(ctx, s); err != nil {
		return err
	}
	crashpoint.Here("notice-submitted")
	return c.update(ctx, self, func(_ *state.Tx, v *view) error { return noted(v) })
}

const maxNoticedSingly = 64

// undeliverable tells that an inbox among the recipients takes nothing.
func undeliverable(err error) bool {
	return isCode(err, keyapi.CodeNoAccount) || isCode(err, keyapi.CodeQuota)
}
