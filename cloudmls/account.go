package cloudmls

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// identity gives the account's identity record from the verified state, or nil.
func (c *Client) identity(ctx context.Context, self Account) (*identityRecord, error) {
	r := &identityRecord{}
	ok, err := c.reader(ctx, self).read(identityKey(self), r)
	if err != nil {
		return nil, fmt.Errorf("identity of %s: %w", self, err)
	}
	if !ok {
		return nil, nil
	}
	if len(r.Seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("identity of %s: damaged record", self)
	}
	return r, nil
}

func (r *identityRecord) private() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(r.Seed) }

func (r *identityRecord) public() []byte {
	return r.private().Public().(ed25519.PublicKey)
}

// AddAccount makes the account the user's and publishes KeyPackages for it.
// The identity key and all private parts are in the sealed state before their
// public parts leave the device. Calling it again is harmless, and repairs
// what an interrupted call left undone. Where the account belongs to another
// user, the error is a *keyapi.Problem with CodeTaken; where the server wants
// proof of ownership, with CodeVerificationRequired: StartProof then.
func (c *Client) AddAccount(ctx context.Context, a Account) error {
	if err := c.usable(); err != nil {
		return err
	}
	self, err := canonical(a)
	if err != nil {
		return err
	}
	unlock, err := c.locks.lock(ctx, accountLock(self))
	if err != nil {
		return err
	}
	defer unlock()
	id, err := c.makeIdentity(ctx, self)
	if err != nil {
		return fmt.Errorf("add account: %w", err)
	}
	if !id.Registered {
		if err := c.registerAccount(ctx, self, id, nil); err != nil {
			return fmt.Errorf("add account: %w", err)
		}
	}
	if err := c.fillPool(ctx, self); err != nil {
		return fmt.Errorf("add account: publish KeyPackages: %w", err)
	}
	return nil
}

// makeIdentity gives the account's identity record and makes one where there
// is none, whichever device comes first.
func (c *Client) makeIdentity(ctx context.Context, self Account) (*identityRecord, error) {
	if _, err := c.store.Refresh(ctx); err != nil {
		return nil, err
	}
	id, err := c.identity(ctx, self)
	if err != nil || id != nil {
		return id, err
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, fmt.Errorf("make identity key: %w", err)
	}
	err = c.update(ctx, self, func(_ *state.Tx, v *view) error {
		id = &identityRecord{}
		if ok, err := v.read(identityKey(self), id); err != nil || ok {
			return err
		}
		id = &identityRecord{Version: recordVersion, Seed: seed, Created: c.now().UnixMilli()}
		return v.put(identityKey(self), id)
	})
	if err != nil {
		return nil, err
	}
	return id, nil
}

func (c *Client) registerAccount(ctx context.Context, self Account, id *identityRecord, proof *keyapi.Proof) error {
	err := c.store.Authorized(ctx, func(ctx context.Context, token string) error {
		_, err := c.o.Server.AddAccount(ctx, token, keyapi.AccountRequest{Account: self, IdentityKey: id.public(), Proof: proof})
		return err
	})
	if err != nil {
		return err
	}
	return c.update(ctx, self, func(_ *state.Tx, v *view) error {
		r := &identityRecord{}
		ok, err := v.read(identityKey(self), r)
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("identity record vanished")
		}
		r.Registered = true
		return v.put(identityKey(self), r)
	})
}

// Reach asks the key server whether an account can receive encrypted
// messages, and tells what is pinned for it. An error never means that it has
// no account. Reach stores nothing, except that a pin follows a signed rotation
// that the key server names.
func (c *Client) Reach(ctx context.Context, self, a Account) (Reach, error) {
	return c.ReachWithin(ctx, self, a, 0)
}

// ReachWithin is Reach for whoever writes to an account again and again: the
// key server is not asked where its last answer is at most that old and named
// the very key that is pinned for the account, now as then. So it is what a
// contact is told of that may be old, never that somebody has no account, nor a
// key that nobody has pinned; a key that changed is noticed that much later, and
// until then messages go to the group with the key that is pinned.
func (c *Client) ReachWithin(ctx context.Context, self, a Account, age time.Duration) (Reach, error) {
	self, err := c.own(ctx, self)
	if err != nil {
		return Reach{}, err
	}
	if a, err = canonical(a); err != nil {
		return Reach{}, err
	}
	contacts, err := c.reader(ctx, self).contacts()
	if err != nil {
		return Reach{}, fmt.Errorf("contacts of %s: %w", self, err)
	}
	answer := keyapi.Reachability{Account: a, HasAccount: true}
	if p := contacts.find(a); p != nil && !p.Unconfirmed && c.namedLately(self, p, age) {
		answer.IdentityKey = bytes.Clone(p.Key)
	} else {
		if answer, err = c.askAccount(ctx, a); err != nil {
			return Reach{}, fmt.Errorf("ask for %s: %w", a, err)
		}
		c.noteNamed(self, a, answer)
		if contacts, err = c.followRotation(ctx, self, answer, contacts); err != nil {
			return Reach{}, fmt.Errorf("follow the identity key of %s: %w", a, err)
		}
	}
	r := Reach{HasAccount: answer.HasAccount, IdentityKey: answer.IdentityKey}
	if p := contacts.find(a); p != nil && p.Unconfirmed && answer.HasAccount {
		r.Pinned = true // the key is the one that the key server names
	} else if p != nil {
		r.Pinned, r.IdentityKey = true, p.Key
		// What some group shows under the name is that group's affair: anybody
		// could block mail to anybody with it.
		r.Changed = p.Changed != nil
		if answer.HasAccount {
			r.Changed = contacts.check(a, answer.IdentityKey) != nil
		}
	}
	return r, nil
}

// followRotation rotates the pin of an account where the key server's answer is
// a key that the pinned one leads to.
func (c *Client) followRotation(ctx context.Context, self Account, answer keyapi.Reachability, contacts *contactsRecord) (*contactsRecord, error) {
	p := contacts.find(answer.Account)
	if p == nil || !keyapi.RotationLeads(answer.Rotations, p.Key) {
		return contacts, nil
	}
	err := c.changePin(ctx, self, answer.Account, func(p *pinEntry) error {
		if p.Key != nil {
			p.heard(answer, c.now())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	c.noteRotations(ctx, self)
	return c.reader(ctx, self).contacts()
}

// Pinned tells, from the verified state alone and without the network, whether
// an identity key was ever seen for the account, and which. Clear text to a
// pinned account is forbidden.
func (c *Client) Pinned(ctx context.Context, self, a Account) (key []byte, ok bool, err error) {
	if self, err = c.own(ctx, self); err != nil {
		return nil, false, err
	}
	if a, err = canonical(a); err != nil {
		return nil, false, err
	}
	contacts, err := c.reader(ctx, self).contacts()
	if err != nil {
		return nil, false, fmt.Errorf("contacts of %s: %w", self, err)
	}
	p := contacts.find(a)
	if p == nil {
		return nil, false, nil
	}
	return p.Key, true, nil
}

// AcceptIdentity replaces the pinned identity key of an account by key, after
// people have talked about it. Welcomes that were held back because of the
// change then count. The contact is unverified from then on, until Verify.
func (c *Client) AcceptIdentity(ctx context.Context, self, a Account, key []byte) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("identity key of %d octets", len(key))
	}
	self, a, err := c.pair(ctx, self, a)
	if err != nil {
		return err
	}
	err = c.changePin(ctx, self, a, func(p *pinEntry) error {
		p.accept(key, c.now())
		return nil
	})
	if err != nil {
		return fmt.Errorf("accept identity of %s: %w", a, err)
	}
	return nil
}
