package cloudmls

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/mls"
)

// lateAfter is how long after its epoch closed a message may turn up without a
// mark.
const lateAfter = 14 * 24 * time.Hour

// Decrypt opens an MLSMessage of any epoch that the account was a member in,
// any number of times and on any device, own ones included. It writes nothing
// of the message to the key server (see Rules); what it needs of the state is fetched on demand. Where the
// group or the epoch is unknown it syncs once.
//
// Errors are ErrNotYet, *NeverError, or temporary.
func (c *Client) Decrypt(ctx context.Context, self Account, message []byte) (*Plaintext, error) {
	p, err := c.DecryptDeferred(ctx, self, message)
	if err != nil {
		return nil, err
	}
	if err := c.Settle(); err != nil {
		return nil, err
	}
	return p, nil
}

// DecryptDeferred is Decrypt for many messages in a row: what is remembered of
// them against replays is durable after Settle only, one write for all. Nothing
// of a message may be shown before Settle returned nil; else a crash could make
// a copy of it pass for the first one.
func (c *Client) DecryptDeferred(ctx context.Context, self Account, message []byte) (*Plaintext, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return nil, err
	}
	m, err := mls.ParseMessage(message)
	if err != nil {
		return nil, &NeverError{Reason: NeverMalformed, Err: err}
	}
	group, epoch, ok := m.Group()
	t, isFramed := m.ContentType()
	if !ok || !isFramed || t != mls.ContentApplication || m.WireFormat() != mls.WirePrivateMessage {
		return nil, &NeverError{Reason: NeverMalformed}
	}
	ref := sha256.Sum256(message)
	r, err := c.findEpoch(ctx, self, []byte(group), uint64(epoch))
	if err := c.noteWaiting(self, ref, []byte(group), uint64(epoch), err); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	app, err := r.archive.Open(m)
	if err != nil {
		return nil, c.tellFork(ctx, self, r, uint64(epoch), explain(r, m, err))
	}
	p := &Plaintext{
		Data: app.Plaintext, Ref: ref,
		Epoch: uint64(epoch), Generation: app.Generation, Own: app.Sender == r.archive.OwnLeaf(),
	}
	if err := c.describe(r, app, p); err != nil {
		return nil, &NeverError{Reason: NeverForeign, Err: err}
	}
	if err := c.checkSender(ctx, self, r, p); err != nil {
		return nil, err
	}
	if err := c.checkPlace(ctx, self, []byte(group), r, app, p); err != nil {
		return nil, err
	}
	if err := c.tellReplaced(ctx, self, []byte(group), p); err != nil {
		return nil, err
	}
	p.Verified = len(p.Warnings) == 0
	p.SenderVerified = p.SenderVerified && p.Verified
	return p, nil
}

// explain says why a message of a known epoch does not open.
func explain(r *epochRecord, m *mls.Message, err error) error {
	tag, _, _, ok := splitAuthData(m.AuthenticatedData())
	if ok && !hmac.Equal(tag, epochTag(r.archive.EpochAuthenticator())) {
		return &NeverError{Reason: NeverFork, Err: err}
	}
	return &NeverError{Reason: NeverInvalid, Err: err}
}

// tellFork notes a message from another state of the group for Status, and gives
// err back.
func (c *Client) tellFork(ctx context.Context, self Account, r *epochRecord, epoch uint64, err error) error {
	var never *NeverError
	if !errors.As(err, &never) || never.Reason != NeverFork {
		return err
	}
	f, e := r.facts()
	if e == nil {
		e = c.noteFork(ctx, self, f.conversation, epoch)
	}
	if e != nil {
		c.warn(ctx, "a fork was not noted", e)
	}
	return err
}

// describe fills in what the epoch and the message say of themselves.
func (c *Client) describe(r *epochRecord, app *mls.Application, p *Plaintext) error {
	f, err := r.facts()
	if err != nil {
		return err
	}
	if f.origin != c.o.Origin {
		return errors.New("the group belongs to another key server")
	}
	sender, ok := f.leaves[app.Sender]
	if !ok {
		return errors.New("the sender is not in the roster")
	}
	p.Conversation, p.Kind, p.Members = f.conversation, f.kind, slices.Clone(f.members)
	p.Sender, p.IdentityKey = sender.account(), bytes.Clone(sender.IdentityKey)
	tag, place, aad, ok := splitAuthData(app.AuthenticatedData)
	p.AAD = bytes.Clone(aad)
	authenticator := r.archive.EpochAuthenticator()
	switch {
	case !ok || !hmac.Equal(tag, epochTag(authenticator)):
		p.Warnings = append(p.Warnings, WarningFork)
	case !hmac.Equal(place, placeTag(authenticator, uint32(app.Sender), app.Generation)):
		p.Warnings = append(p.Warnings, WarningReplay)
	}
	return nil
}

// tellReplaced fills in since when the message's group serves the conversation in
// the place of another one.
func (c *Client) tellReplaced(ctx context.Context, self Account, group []byte, p *Plaintext) error {
	conv, err := c.knownConversation(ctx, self, p.Conversation)
	if err != nil {
		return fmt.Errorf("conversation: %w", err)
	}
	if conv != nil && conv.Replaced != 0 && bytes.Equal(conv.Group, group) {
		p.Replaced = time.UnixMilli(conv.Replaced)
	}
	return nil
}

// checkSender holds the sender's identity key against the pinned one.
func (c *Client) checkSender(ctx context.Context, self Account, r *epochRecord, p *Plaintext) error {
	if p.Sender == self {
		id, err := c.identity(ctx, self)
		if err != nil {
			return err
		}
		good := false
		if id != nil {
			if good, err = id.owned(p.IdentityKey, r.opened, c.entered(ctx, self, r)); err != nil {
				return err
			}
		}
		if !good {
			p.Warnings = append(p.Warnings, WarningIdentityChanged)
		}
		p.SenderVerified = true
		return nil
	}
	contacts, err := c.knownContacts(ctx, self)
	if err != nil {
		return fmt.Errorf("contacts of %s: %w", self, err)
	}
	pin := contacts.find(p.Sender)
	if pin != nil && pin.doubts(p.IdentityKey) {
		// A message may be read between the Welcome that showed the key and the
		// key server's word for it; what is said of it now is remembered.
		if err := c.confirmSender(ctx, self, p.Sender, p.IdentityKey, contacts); err != nil {
			return fmt.Errorf("confirm the identity key of %s: %w", p.Sender, err)
		}
		if contacts, err = c.knownContacts(ctx, self); err != nil {
			return fmt.Errorf("contacts of %s: %w", self, err)
		}
		pin = contacts.find(p.Sender)
	}
	if pin == nil || pin.Unconfirmed {
		p.Warnings = append(p.Warnings, WarningIdentityUnknown)
		return nil
	}
	good, err := pin.vouches(p.IdentityKey, r.opened, c.entered(ctx, self, r))
	switch {
	case err != nil:
		return err
	case !good:
		p.Warnings = append(p.Warnings, WarningIdentityChanged)
	default:
		p.SenderVerified = pin.Verified != 0 && bytes.Equal(pin.Key, p.IdentityKey)
	}
	return nil
}
