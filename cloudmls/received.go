package cloudmls

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// errForbidden marks a Commit that is valid MLS but breaks the rules of its
// conversation. It is not followed, and since the key server counts it as
// accepted, the conversation is broken from here on.
var errForbidden = errors.New("the Commit breaks the conversation's rules")

// errSplit marks a Commit that a member of the epoch signed and that is invalid
// for us. It may be valid for the others: they are in an epoch then, perhaps
// with fewer members, that we cannot enter.
var errSplit = errors.New("the members do not agree on a Commit")

// unauthentic tells whether a Commit failed before its signature was verified,
// which means that it fails for every member: nobody has gone on with it.
func unauthentic(err error) bool {
	var v *mls.ValidationError
	if errors.As(err, &v) {
		return v.Section == "6" || strings.HasPrefix(v.Section, "6.")
	}
	for _, before := range []error{mls.ErrWrongGroup, mls.ErrStaleEpoch, mls.ErrFutureEpoch, mls.ErrReplayed, mls.ErrGenerationTooFar} {
		if errors.Is(err, before) {
			return true
		}
	}
	return false
}

// processCommit follows another member's Commit. One of the own leaf is known
// already: whoever made it stored the next epoch in the same transaction.
func (c *Client) processCommit(v *view, d *keyapi.Delivery, result *SyncResult) error {
	staged, err := v.staged(ConversationID(d.Conversation))
	if err != nil {
		return err
	}
	if staged != nil && staged.delivered(d) && d.Epoch == staged.opens() {
		return c.processStaged(v, staged, result)
	}
	conv, err := v.conversation(ConversationID(d.Conversation))
	if err != nil {
		return err
	}
	if conv != nil && bytes.Equal(conv.Group, d.Group) && conv.Removed != 0 && conv.Left != 0 {
		return nil // it was left; that the others say so now is no news
	}
	if conv != nil && conv.held(d.Group, d.Epoch) {
		return nil // a sibling device has replaced the group since it was delivered
	}
	if conv == nil || !bytes.Equal(conv.Group, d.Group) || conv.Removed != 0 {
		return refuse(ProblemUnknownGroup, errors.New("Commit for a group that this account is not in"))
	}
	if d.Epoch <= conv.Epoch {
		return nil // ours, or a sibling device processed it
	}
	if conv.Broken != "" && conv.BrokenKind != ProblemWithheld {
		return nil // reported; only a Welcome helps
	}
	m, err := parseCommit(d)
	if err != nil {
		return refuse(ProblemGarbage, err)
	}
	if d.Epoch != conv.Epoch+1 {
		return refuse(ProblemGap, fmt.Errorf("Commit opens epoch %d after %d", d.Epoch, conv.Epoch))
	}
	g, sender, err := v.group(conv.Group, conv.Epoch)
	if conv.withoutLive(err) {
		return refuse(ProblemLostState, err)
	}
	if err != nil {
		return err
	}
	received, err := g.Process(m, c.now())
	if errors.Is(err, mls.ErrOwnCommit) {
		return refuse(ProblemLostState, err)
	}
	if err != nil && !unauthentic(err) {
		err = fmt.Errorf("%w: %w", errSplit, err)
	}
	if err != nil {
		return refuse(ProblemGarbage, err)
	}
	commit, ok := received.(*mls.ReceivedCommit)
	if !ok {
		return refuse(ProblemGarbage, errors.New("a proposal was delivered as a Commit"))
	}
	if commit.SelfRemoved {
		return c.leave(v, conv, result)
	}
	if err := v.seeAdded(commit.Added); err != nil {
		return refuse(ProblemForbidden, fmt.Errorf("%w: %w", errForbidden, err))
	}
	next := commit.Staged.Group()
	if err := v.checkNext(conv, g, next); err != nil {
		return refuse(ProblemForbidden, fmt.Errorf("%w: %w", errForbidden, err))
	}
	whole := ""
	if conv.Broken != "" {
		whole = "the Commit that the key server withheld has come"
		conv.Broken, conv.BrokenKind, conv.Asked = "", "", 0
	}
	if err := v.openEpoch(conv, next, mls.SignaturePrivateKey(sender.SignatureKey), c.now()); err != nil {
		return err
	}
	result.Changed = append(result.Changed, conv.ID)
	if whole != "" {
		result.tell(c, conv.ID, NoticeRepaired, Account{}, whole)
	}
	return nil
}

// processStaged takes an own Commit over that was accepted before this account
// had an answer.
func (c *Client) processStaged(v *view, s *stagedRecord, result *SyncResult) error {
	conv, err := c.promote(v, s)
	var moved *movedError
	switch {
	case errors.As(err, &moved): // the state is past it
		return v.unstage(s.id())
	case err != nil:
		return err
	}
	result.Changed = append(result.Changed, conv.ID)
	return nil
}

func parseCommit(d *keyapi.Delivery) (*mls.Message, error) {
	m, err := mls.ParseMessage(d.Message)
	if err != nil {
		return nil, err
	}
	group, epoch, ok := m.Group()
	if !ok || m.WireFormat() != mls.WirePrivateMessage {
		return nil, errors.New("not a PrivateMessage")
	}
	if t, ok := m.ContentType(); !ok || t != mls.ContentCommit {
		return nil, errors.New("not a Commit")
	}
	if string(group) != string(d.Group) || uint64(epoch)+1 != d.Epoch {
		return nil, errors.New("group or epoch are not those of the delivery")
	}
	return m, nil
}

// errExtensions: nothing is agreed on in a group but what conversation it serves;
// external_senders, say, would let strangers make proposals (RFC 9420 section
// 12.1.8.1).
var errExtensions = errors.New("the group has a GroupContext extension beside the binding")

// checkNext holds a new epoch against the rules of design section 4.
func (v *view) checkNext(conv *conversationRecord, before, next *mls.Group) error {
	if _, ended := next.Reinitialized(); ended {
		return errors.New("it ends the group for another one (ReInit)")
	}
	old, hadOld := before.Extension(extensionBinding)
	now, hasNow := next.Extension(extensionBinding)
	if !hadOld || !hasNow || !bytes.Equal(old, now) {
		return errors.New("it changes what conversation the group serves")
	}
	if len(next.Extensions()) != 1 { // the binding
		return errExtensions
	}
	members := next.Members()
	list, err := v.certs.roster(members)
	if err != nil {
		return err
	}
	if len(members) != len(list) {
		return errTwoLeaves
	}
	return checkRoster(conv.Kind, conv.ID, v.self, list)
}

// leave marks a conversation that this account was removed from. What it could
// read it still can.
func (c *Client) leave(v *view, conv *conversationRecord, result *SyncResult) error {
	if err := v.unstageOf(conv.ID, conv.Group); err != nil {
		return err
	}
	if err := v.leaveGroup(conv.Group, conv.Epoch); err != nil {
		return err
	}
	conv.Removed, conv.Wishes = c.now().UnixMilli(), nil
	result.Removed = append(result.Removed, conv.ID)
	return v.put(conversationKey(v.self, conv.ID), conv)
}

// breakIfNeeded stops a conversation whose accepted Commit we cannot follow:
// encrypting to its old epoch could reach people whom others removed.
//
// The others are asked for help by the next mend.
func (c *Client) breakIfNeeded(v *view, d *keyapi.Delivery, r *refusal, result *SyncResult) error {
	stuck := errors.Is(r.err, errForbidden) || errors.Is(r.err, errSplit) ||
		r.kind == ProblemGap || r.kind == ProblemLostState || r.kind == ProblemTooLarge
	if !stuck || d.Type != keyapi.DeliveryCommit {
		return nil
	}
	conv, err := v.conversation(ConversationID(d.Conversation))
	if err != nil || conv == nil || conv.Broken != "" {
		return err
	}
	h := sha256.Sum256(d.Message)
	return c.breakDown(v, conv, r, h[:], NoticeBroken, result)
}

// breakDown marks a conversation as one in which nothing can be encrypted until
// this account is let in again or the group is replaced.
func (c *Client) breakDown(v *view, conv *conversationRecord, r *refusal, commit []byte, kind NoticeKind, result *SyncResult) error {
	conv.Broken, conv.BrokenKind, conv.BrokenCommit, conv.Asked = shorten(r.Error()), r.kind, commit, 0
	result.tell(c, conv.ID, kind, Account{}, conv.Broken)
	result.todo = append(result.todo, conv.ID)
	return v.put(conversationKey(v.self, conv.ID), conv)
}

// followWinner processes the Commit that the key server names as the faster
// one, where a Sync did not bring it: its maker may have left us out of the
// recipients. It does nothing once the epoch moved.
func (c *Client) followWinner(ctx context.Context, self Account, lost *conversationRecord, winner *keyapi.Delivery) error {
	if winner == nil || winner.Type != keyapi.DeliveryCommit {
		return nil
	}
	err := c.changeConversation(ctx, self, lost, func(v *view, _ *conversationRecord, result *SyncResult) error {
		if !bytes.Equal(winner.Conversation, lost.ID[:]) || !bytes.Equal(winner.Group, lost.Group) {
			return refuse(ProblemGarbage, errors.New("the winner is of another group"))
		}
		child := v.nested()
		err := c.processCommit(child, winner, result)
		var r *refusal
		if errors.As(err, &r) {
			return c.breakIfNeeded(v, winner, r, result)
		}
		if err == nil {
			v.merge(child)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("follow the faster Commit: %w", err)
	}
	return nil
}

// changeConversation runs fn on a conversation that is still in the epoch that
// the caller knows, in one transaction with what fn leaves to mend.
func (c *Client) changeConversation(ctx context.Context, self Account, known *conversationRecord, fn func(*view, *conversationRecord, *SyncResult) error) error {
	var result SyncResult
	err := c.update(ctx, self, func(_ *state.Tx, v *view) error {
		result = SyncResult{}
		conv, err := v.conversation(known.ID)
		if err != nil {
			return err
		}
		if conv == nil || conv.Epoch != known.Epoch || !bytes.Equal(conv.Group, known.Group) || conv.Removed != 0 || conv.Broken != "" {
			return errNothing
		}
		if err := fn(v, conv, &result); err != nil || len(result.todo) == 0 {
			return err
		}
		inbox, err := v.inbox()
		if err != nil {
			return err
		}
		inbox.remember(result.todo)
		return v.put(inboxKey(self), inbox)
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.keepNotices(ctx, self, result.Notices); err != nil {
		c.warn(ctx, "a notice was not noted", err)
	}
	return nil
}

// withheld marks a conversation whose next epoch the key server says exists, and
// does not show: whoever encrypts in the old one may reach people whom others
// have removed, and cannot reach those who went on.
func (c *Client) withheld(ctx context.Context, self Account, conv *conversationRecord) error {
	return c.changeConversation(ctx, self, conv, func(v *view, now *conversationRecord, result *SyncResult) error {
		r := &refusal{kind: ProblemWithheld, err: fmt.Errorf("the key server says that an epoch after %d was opened and does not deliver the Commit", now.Epoch)}
		return c.breakDown(v, now, r, nil, NoticeStalled, result)
	})
}

// elsewhere follows the key server's word that another group serves the
// conversation. Where nothing shows by whose doing, whoever made it left this
// account out, or the Welcome did not come or was refused: the conversation is
// broken, so that the others are asked.
func (c *Client) elsewhere(ctx context.Context, self Account, conv *conversationRecord, word error) error {
	if _, err := c.sync(ctx, self); err != nil {
		return fmt.Errorf("follow the group that was replaced: %w", err)
	}
	return c.changeConversation(ctx, self, conv, func(v *view, now *conversationRecord, result *SyncResult) error {
		return c.breakDown(v, now, &refusal{kind: ProblemUnknownGroup, err: word}, nil, NoticeBroken, result)
	})
}

// errNothing ends a transaction that has nothing to change.
var errNothing = errors.New("nothing to do")
