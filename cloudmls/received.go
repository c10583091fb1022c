package cloudmls

import (
	"bytes"
	"context"
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
	conv, err := v.conversation(ConversationID(d.Conversation))
	if err != nil {
		return err
	}
	if conv == nil || !bytes.Equal(conv.Group, d.Group) || conv.Removed != 0 {
		return refuse(ProblemUnknownGroup, errors.New("Commit for a group that this account is not in"))
	}
	if d.Epoch <= conv.Epoch {
		return nil // ours, or a sibling device processed it
	}
	m, err := parseCommit(d)
	if err != nil {
		return refuse(ProblemGarbage, err)
	}
	if d.Epoch != conv.Epoch+1 {
		return refuse(ProblemGap, fmt.Errorf("Commit opens epoch %d after %d", d.Epoch, conv.Epoch))
	}
	g, sender, err := v.group(conv.Group, conv.Epoch)
	if errors.Is(err, state.ErrNotFound) {
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
	next := commit.Staged.Group()
	if err := checkNext(v.self, conv, g, next); err != nil {
		return refuse(ProblemForbidden, fmt.Errorf("%w: %w", errForbidden, err))
	}
	if err := v.openEpoch(conv, next, mls.SignaturePrivateKey(sender.SignatureKey), c.now()); err != nil {
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

// checkNext holds a new epoch against the rules of design section 4.
func checkNext(self Account, conv *conversationRecord, before, next *mls.Group) error {
	old, hadOld := before.Extension(extensionBinding)
	now, hasNow := next.Extension(extensionBinding)
	if !hadOld || !hasNow || !bytes.Equal(old, now) {
		return errors.New("it changes what conversation the group serves")
	}
	members := next.Members()
	list, err := roster(members)
	if err != nil {
		return err
	}
	if len(members) != len(list) {
		return errTwoLeaves
	}
	return checkRoster(conv.Kind, conv.ID, self, list)
}

// leave marks a conversation that this account was removed from. What it could
// read it still can.
func (c *Client) leave(v *view, conv *conversationRecord, result *SyncResult) error {
	if err := v.leaveGroup(conv.Group, conv.Epoch); err != nil {
		return err
	}
	conv.Removed = c.now().UnixMilli()
	result.Removed = append(result.Removed, conv.ID)
	return v.put(conversationKey(v.self, conv.ID), conv)
}

// breakIfNeeded stops a conversation whose accepted Commit we cannot follow:
// encrypting to its old epoch could reach people whom others removed.
func (v *view) breakIfNeeded(d *keyapi.Delivery, r *refusal) error {
	stuck := errors.Is(r.err, errForbidden) || errors.Is(r.err, errSplit) ||
		r.kind == ProblemGap || r.kind == ProblemLostState || r.kind == ProblemTooLarge
	if !stuck || d.Type != keyapi.DeliveryCommit {
		return nil
	}
	conv, err := v.conversation(ConversationID(d.Conversation))
	if err != nil || conv == nil || conv.Broken != "" {
		return err
	}
	conv.Broken = r.Error()
	return v.put(conversationKey(v.self, conv.ID), conv)
}

// followWinner processes the Commit that the key server names as the faster
// one, where a Sync did not bring it: its maker may have left us out of the
// recipients. It does nothing once the epoch moved.
func (c *Client) followWinner(ctx context.Context, self Account, lost *conversationRecord, winner *keyapi.Delivery) error {
	if winner == nil || winner.Type != keyapi.DeliveryCommit {
		return nil
	}
	err := c.update(ctx, self, func(_ *state.Tx, v *view) error {
		conv, err := v.conversation(lost.ID)
		if err != nil {
			return err
		}
		if conv == nil || conv.Epoch != lost.Epoch || !bytes.Equal(conv.Group, lost.Group) || conv.Removed != 0 {
			return errNothing
		}
		if !bytes.Equal(winner.Conversation, lost.ID[:]) || !bytes.Equal(winner.Group, lost.Group) {
			return refuse(ProblemGarbage, errors.New("the winner is of another group"))
		}
		return c.processCommit(v, winner, &SyncResult{})
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("follow the faster Commit: %w", err)
	}
	return nil
}

// errNothing ends a transaction that has nothing to change.
var errNothing = errors.New("nothing to do")
