package cloudmls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// ErrNoContact: nothing is known of the account, and the key server knows no
// such account either.
var ErrNoContact = errors.New("no such contact")

// ContactState says how far an identity key is trusted.
type ContactState string

// States of a contact.
const (
	// ContactUnverified: the key was pinned when it was first seen.
	ContactUnverified ContactState = "unverified"
	// ContactVerified: people have compared the pinned key.
	ContactVerified ContactState = "verified"
	// ContactChanged: another key was seen since, in a group or at the key server.
	// Nothing is encrypted to a roster that shows it until AcceptIdentity or Verify;
	// groups that show the pinned one are written to.
	ContactChanged ContactState = "changed"
)

// Contact is what one of the user's accounts knows of somebody's identity key.
type Contact struct {
	Account     Account
	State       ContactState
	IdentityKey []byte    // Ed25519; the pinned one
	Since       time.Time // when it was pinned first; zero: it is not
	// VerifiedAt is when people compared IdentityKey; zero: never. It stays
	// where State is ContactChanged.
	VerifiedAt time.Time
	// NewKey is the key seen since, where State is ContactChanged. By itself it
	// says little: anybody can show a key under any name in a group of theirs.
	NewKey []byte
	// NewConfirmed: the key server names NewKey as the account's. Only
	// Client.Contact asks.
	NewConfirmed bool
	// Confirmed: the key server has named IdentityKey as the account's, or a
	// person has accepted it. What was only seen in a group that somebody else
	// put together is not.
	Confirmed bool
	// RotatedAt is when a rotation that the key before had signed brought
	// IdentityKey; zero: none did. Nobody has compared the key by that.
	RotatedAt time.Time
}

func contactOf(p *pinEntry) Contact {
	k := Contact{
		Account: Account{Platform: p.Platform, ID: p.ID}, State: ContactUnverified,
		IdentityKey: bytes.Clone(p.Key), Since: time.UnixMilli(p.Since), Confirmed: !p.Unconfirmed,
	}
	if p.Verified != 0 {
		k.State, k.VerifiedAt = ContactVerified, time.UnixMilli(p.Verified)
	}
	if p.Rotated != 0 {
		k.RotatedAt = time.UnixMilli(p.Rotated)
	}
	if p.Changed != nil {
		k.State, k.NewKey = ContactChanged, bytes.Clone(p.Changed)
	}
	return k
}

// Contacts lists everybody whose identity key one of the user's devices has
// pinned for this account, sorted by account. It is the state of the last Sync;
// the key server is not asked, so that a key which changed since does not show.
func (c *Client) Contacts(ctx context.Context, self Account) ([]Contact, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return nil, err
	}
	r, err := c.reader(ctx, self).contacts()
	if err != nil {
		return nil, fmt.Errorf("contacts of %s: %w", self, err)
	}
	list := make([]Contact, len(r.Pins))
	for i := range r.Pins {
		list[i] = contactOf(&r.Pins[i])
	}
	slices.SortFunc(list, func(a, b Contact) int { return compareAccounts(a.Account, b.Account) })
	return list, nil
}

// Contact gives one contact, and asks the key server whether its key is still
// the pinned one. An account that is not pinned yet is told as the key server
// has it, unpinned; ErrNoContact where neither knows it. Nothing is stored.
func (c *Client) Contact(ctx context.Context, self, other Account) (Contact, error) {
	self, other, err := c.pair(ctx, self, other)
	if err != nil {
		return Contact{}, err
	}
	answer, err := c.askAccount(ctx, other)
	if err != nil {
		return Contact{}, fmt.Errorf("ask for %s: %w", other, err)
	}
	named := answer.IdentityKey
	p, err := c.pin(ctx, self, other)
	switch {
	case err != nil:
		return Contact{}, err
	case p == nil && named == nil:
		return Contact{}, fmt.Errorf("%w: %s", ErrNoContact, other)
	case p == nil:
		return Contact{Account: other, State: ContactUnverified, IdentityKey: named, Confirmed: true}, nil
	case named == nil:
	case p.Unconfirmed:
		p.confirm(named) // a copy: the record is left as it is
	case bytes.Equal(named, p.Key):
		p.Changed = nil // what some group shows is refuted
	case keyapi.RotationLeads(answer.Rotations, p.Key):
		p.heard(answer, c.now())
	default:
		p.Changed = named
	}
	k := contactOf(p)
	k.NewConfirmed = k.NewKey != nil && bytes.Equal(k.NewKey, named)
	return k, nil
}

// pair brings an own account and another one into canonical form.
func (c *Client) pair(ctx context.Context, self, other Account) (Account, Account, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return self, other, err
	}
	if other, err = canonical(other); err != nil {
		return self, other, err
	}
	if other == self {
		return self, other, errors.New("an account is no contact of its own")
	}
	return self, other, nil
}

// pin gives a copy of what is pinned for an account, nil if nothing is.
func (c *Client) pin(ctx context.Context, self, other Account) (*pinEntry, error) {
	r, err := c.reader(ctx, self).contacts()
	if err != nil {
		return nil, fmt.Errorf("contacts of %s: %w", self, err)
	}
	return r.find(other), nil // the record was decoded for this call
}

// changePin runs fn on the account's pin, one that fn may fill where there is
// none, in one transaction. Where fn puts another key in place, Welcomes that
// were held back because of the change count then.
func (c *Client) changePin(ctx context.Context, self, other Account, fn func(p *pinEntry) error) error {
	unlock, err := c.locks.lock(ctx, syncLock(self))
	if err != nil {
		return err
	}
	defer unlock()
	var released SyncResult
	err = c.update(ctx, self, func(_ *state.Tx, v *view) error {
		released = SyncResult{}
		r, err := v.contacts()
		if err != nil {
			return err
		}
		p := r.find(other)
		if p == nil {
			if len(r.Pins) >= maxPins {
				return errNoRoom
			}
			r.Pins = append(r.Pins, pinEntry{Platform: other.Platform, ID: other.ID, Since: c.now().UnixMilli()})
			p = &r.Pins[len(r.Pins)-1]
		}
		before := p.Key
		if err := fn(p); err != nil {
			return err
		}
		replaced := !bytes.Equal(before, p.Key)
		if err := v.put(contactsKey(self), r); err != nil || !replaced {
			return err
		}
		return c.releaseHeld(v, other, &released)
	})
	if err == nil {
		c.tellReleased(ctx, self, &released)
	}
	return err
}
