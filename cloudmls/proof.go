package cloudmls

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// ErrNoChallenge: this device has not asked for a challenge of this id for the
// account, or it has ended. What answers challenges by itself must pass over
// what it did not ask for.
var ErrNoChallenge = errors.New("no such challenge was asked for on this device, or it has ended")

// Challenge is half of a proof that an account is the user's; the other half,
// token1, comes over the account's own platform, e.g. by mail.
type Challenge struct {
	ID      []byte // 16 octets; the message over the platform names it
	Expires time.Time
}

// challengeRecord is a local record, per account.
type challengeRecord struct {
	Version     int    `json:"v"`
	ID          []byte `json:"id"`
	Token2      []byte `json:"token2"`
	IdentityKey []byte `json:"identity_key"`
	Expires     int64  `json:"expires"`
}

// StartProof asks the key server to send the account a challenge over its own
// platform. It replaces one that was under way on this device. AnswerProof ends
// it, also after a restart.
func (c *Client) StartProof(ctx context.Context, a Account) (*Challenge, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	self, err := canonical(a)
	if err != nil {
		return nil, err
	}
	unlock, err := c.locks.lock(ctx, accountLock(self))
	if err != nil {
		return nil, err
	}
	defer unlock()
	id, err := c.makeIdentity(ctx, self)
	if err != nil {
		return nil, fmt.Errorf("prove %s: %w", self, err)
	}
	var answer keyapi.VerifyChallenge
	err = c.store.Authorized(ctx, func(ctx context.Context, token string) (err error) {
		answer, err = c.o.Server.Verify(ctx, token, keyapi.VerifyRequest{Account: self, IdentityKey: id.public()})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("prove %s: %w", self, err)
	}
	r := &challengeRecord{
		Version: recordVersion, ID: answer.ID, Token2: answer.Token2, IdentityKey: id.public(), Expires: answer.Expires.UnixMilli(),
	}
	b, err := encodeRecord(r)
	if err != nil {
		return nil, err
	}
	if err := c.store.Cache("sdk/challenge").Put(self.String(), b); err != nil {
		return nil, fmt.Errorf("prove %s: %w", self, err)
	}
	return &Challenge{ID: bytes.Clone(answer.ID), Expires: answer.Expires}, nil
}

// AnswerProof answers a challenge that StartProof asked for, with what came over
// the account's platform: its id and token1, or the octets of keyapi.ProofCode
// where a person types a code. The answer is signed by the identity key and names
// it, so that a token which somebody else got hold of binds no key of theirs. The
// account is the user's then, as after AddAccount. ErrNoChallenge comes before
// anything is sent; a *keyapi.Problem with CodeForbidden says that token1 is not
// the right one, or that the challenge was tried too often.
func (c *Client) AnswerProof(ctx context.Context, a Account, id, token1 []byte) error {
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
	r, err := c.challenge(self)
	if err != nil {
		return fmt.Errorf("prove %s: %w", self, err)
	}
	if r == nil || !bytes.Equal(r.ID, id) || c.now().After(time.UnixMilli(r.Expires)) {
		return fmt.Errorf("prove %s: %w", self, ErrNoChallenge)
	}
	own, err := c.identity(ctx, self)
	if err != nil {
		return err
	}
	if own == nil || !own.is(r.IdentityKey) {
		return fmt.Errorf("prove %s: %w", self, ErrNoChallenge) // the key was replaced since
	}
	input := keyapi.ProofSigningInput(c.o.Origin, self, r.IdentityKey, token1, r.Token2)
	proof := &keyapi.Proof{ID: r.ID, Signature: ed25519.Sign(own.private(), input)}
	if err := c.registerAccount(ctx, self, own, proof); err != nil {
		return fmt.Errorf("prove %s: %w", self, err)
	}
	if err := c.store.Cache("sdk/challenge").Delete(self.String()); err != nil {
		return fmt.Errorf("prove %s: %w", self, err)
	}
	if err := c.fillPool(ctx, self); err != nil {
		return fmt.Errorf("prove %s: publish KeyPackages: %w", self, err)
	}
	return nil
}

// Challenged gives the challenge that is under way for the account on this
// device, nil if none is.
func (c *Client) Challenged(a Account) (*Challenge, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	self, err := canonical(a)
	if err != nil {
		return nil, err
	}
	r, err := c.challenge(self)
	if err != nil || r == nil || c.now().After(time.UnixMilli(r.Expires)) {
		return nil, err
	}
	return &Challenge{ID: r.ID, Expires: time.UnixMilli(r.Expires)}, nil
}

func (c *Client) challenge(self Account) (*challengeRecord, error) {
	b, err := c.store.Cache("sdk/challenge").Get(self.String())
	if err != nil || b == nil {
		return nil, err
	}
	r := &challengeRecord{}
	return r, decodeRecord(b, r)
}
