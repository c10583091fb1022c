package cloudmls

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// ErrIdentityTaken: the key server names an identity key for the account that
// none of the user's devices has made. Whoever had a device replaced the key
// before the user did. Everything else is replaced all the same, so that they read
// nothing more; but what the account shows is then a key that contacts, who follow
// the other one, refuse to write to. They must be told by other means, and from
// here there is no way to get the account back: its key server's operator deletes
// the user (cloudmls keyserver admin), who registers anew. Contacts are then asked
// to accept the new identity key, which nothing that the thief has can sign.
var ErrIdentityTaken = errors.New("the account's identity key was replaced by somebody else")

// rotateIdentity replaces an account's identity key by one that it signs, once
// per round, whichever device does it and wherever another was cut off. The new
// key is in the sealed state before the key server hears of it, and in use after.
func (c *Client) rotateIdentity(ctx context.Context, self Account, round int64) error {
	unlock, err := c.locks.lock(ctx, accountLock(self))
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.advanceIdentity(ctx, self, round); err != nil {
		return err
	}
	if err := c.fillPool(ctx, self); err != nil {
		return fmt.Errorf("publish KeyPackages: %w", err)
	}
	return nil
}

// advanceIdentity is rotateIdentity without the KeyPackages. The caller holds the
// account's lock.
func (c *Client) advanceIdentity(ctx context.Context, self Account, round int64) error {
	for {
		next, err := c.prepareIdentity(ctx, self, round)
		if err != nil || next == nil {
			return err
		}
		crashpoint.Here("identity-stored")
		err = c.store.Authorized(ctx, func(ctx context.Context, token string) error {
			_, err := c.o.Server.RotateIdentity(ctx, token, keyapi.RotationRequest{Account: self, Rotation: next.Rotation})
			return err
		})
		if isCode(err, keyapi.CodeConflict) {
			if past, e := c.identityIsPast(ctx, self, next); e != nil {
				return errors.Join(e, err)
			} else if past {
				continue
			}
			return fmt.Errorf("%w: %w", ErrIdentityTaken, err)
		}
		if err != nil {
			return fmt.Errorf("tell the key server: %w", err)
		}
		crashpoint.Here("identity-published")
		if err := c.takeIdentity(ctx, self, next.Round); err != nil {
			return err
		}
		crashpoint.Here("identity-replaced")
	}
}

// prepareIdentity stores the key to come, unless one is there; nil: the round is
// done for this account. One that a round before this left behind comes first:
// the key server may have it, and a device that is put out now may know it.
func (c *Client) prepareIdentity(ctx context.Context, self Account, round int64) (*nextIdentity, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, fmt.Errorf("make identity key: %w", err)
	}
	var next *nextIdentity
	err := c.changeIdentity(ctx, self, func(r *identityRecord) error {
		next = nil
		if r.Round >= round {
			return errNothing
		}
		if next = r.Next; next != nil {
			return errNothing
		}
		public := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
		rotation, err := keyapi.NewRotation(self, r.private(), public, uint64(c.now().Unix()))
		if err != nil {
			return err
		}
		next = &nextIdentity{Seed: seed, Rotation: rotation, Round: round}
		r.Next = next
		return nil
	})
	return next, err
}

// identityIsPast tells whether another device of the user has taken a key to come
// into use meanwhile: then it is no stranger's that the key server has now.
func (c *Client) identityIsPast(ctx context.Context, self Account, next *nextIdentity) (bool, error) {
	if _, err := c.store.Refresh(ctx); err != nil {
		return false, err
	}
	id, err := c.identity(ctx, self)
	if err != nil || id == nil {
		return false, err
	}
	return id.Next == nil || !bytes.Equal(id.Next.Seed, next.Seed), nil
}

// takeIdentity puts the key to come in place of the present one, whose private
// part is gone then.
func (c *Client) takeIdentity(ctx context.Context, self Account, round int64) error {
	return c.changeIdentity(ctx, self, func(r *identityRecord) error {
		if r.Next == nil || r.Round >= round {
			return errNothing // another device did it
		}
		r.Former = boundFormer(append(r.Former, formerKey{Key: r.public(), Until: c.now().UnixMilli(), Rotated: true}))
		r.Rotations = append(r.Rotations, r.Next.Rotation)
		r.Rotations = r.Rotations[max(0, len(r.Rotations)-keyapi.MaxRotations):]
		r.Seed, r.Round, r.Next, r.Taken = r.Next.Seed, r.Next.Round, nil, 0
		return nil
	})
}

// markTaken has the account's leaf renewed in every group of this round although
// its identity key had to stay: whoever replaced that has the keys of the leaves,
// too. That the leaf shows another key, or how old it is, says nothing here: the
// thief can have renewed it. Once marked, each group's Commit takes its mark away.
func (c *Client) markTaken(ctx context.Context, self Account, round int64) error {
	id, err := c.identity(ctx, self)
	if err != nil || id == nil || id.Taken >= round {
		return err
	}
	records, err := c.conversations(ctx, self)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(records, markAtOnce) {
		err := c.update(ctx, self, func(_ *state.Tx, v *view) error {
			for _, r := range part {
				if err := v.markLeaf(r.ID); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return c.changeIdentity(ctx, self, func(r *identityRecord) error {
		r.Taken = max(r.Taken, round)
		return nil
	})
}

// markAtOnce is how many conversations one transaction marks.
const markAtOnce = 64

// markLeaf asks for fresh keys of the own leaf, whatever a staged Commit brings.
func (v *view) markLeaf(id ConversationID) error {
	conv, err := v.conversation(id)
	if err != nil || conv == nil || conv.Removed != 0 {
		return err
	}
	conv.Renew = true
	if err := v.put(conversationKey(v.self, id), conv); err != nil {
		return err
	}
	s, err := v.staged(id)
	if err != nil || s == nil || !s.Renewed {
		return err
	}
	s.Renewed = false
	return v.put(stagedKey(v.self, id), s)
}

// changeIdentity runs fn on the identity record in one transaction; errNothing
// ends it without a change.
func (c *Client) changeIdentity(ctx context.Context, self Account, fn func(*identityRecord) error) error {
	err := c.update(ctx, self, func(_ *state.Tx, v *view) error {
		r := &identityRecord{}
		ok, err := v.read(identityKey(self), r)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: %s", ErrNoAccount, self)
		}
		if err := fn(r); err != nil {
			return err
		}
		return v.put(identityKey(self), r)
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	return err
}
