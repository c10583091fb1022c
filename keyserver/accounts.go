package keyserver

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"slices"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Challenger sends the first half of a challenge over the account's own
// platform, e.g. by mail. It must not put anything else into the message that
// the caller of the API chose.
type Challenger interface {
	SendToken(ctx context.Context, a keyapi.Account, id ChallengeID, token1 []byte) error
}

const (
	challengeLifetime = 15 * time.Minute
	challengeTries    = 5
	challengeTimeout  = 30 * time.Second // for handing it to the platform
	tokenHalfSize     = 16
)

// Proof levels of AccountInfo.
const (
	proofNone      = 0
	proofChallenge = 1
)

func checkAccount(a keyapi.Account, identityKey []byte) error {
	if err := a.Check(); err != nil {
		return invalid(err.Error())
	}
	if len(identityKey) != ed25519.PublicKeySize {
		return invalid("identity_key must have 32 octets")
	}
	return nil
}

// verify starts a proof of ownership.
func (s *Server) verify(ctx context.Context, in *input[keyapi.VerifyRequest]) (*output[keyapi.VerifyChallenge], error) {
	r, id := &in.Body, caller(ctx)
	if err := checkAccount(r.Account, r.IdentityKey); err != nil {
		return nil, err
	}
	challenger := s.Challengers[r.Account.Platform]
	if challenger == nil {
		return nil, verificationRequired("this server cannot verify accounts of this platform")
	}
	if err := s.challengeAllowed(ctx, id.user, r.Account); err != nil {
		return nil, err
	}
	c := &Challenge{
		User: id.user, Account: r.Account, IdentityKey: r.IdentityKey,
		Token1: make([]byte, tokenHalfSize), Token2: make([]byte, tokenHalfSize), Expires: s.Now().Add(challengeLifetime),
	}
	rand.Read(c.ID[:])
	rand.Read(c.Token1)
	rand.Read(c.Token2)
	err := s.Store.Update(ctx, func(w Writer) error {
		if err := mayClaim(w, id.user, r.Account, r.IdentityKey); err != nil {
			return err
		}
		if err := w.Expire(s.Now(), expireAtOnce); err != nil {
			return err
		}
		return w.PutChallenge(c)
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, challengeTimeout)
	defer cancel()
	if err := challenger.SendToken(ctx, c.Account, c.ID, c.Token1); err != nil {
		s.log.Warn("challenge could not be sent", "platform", c.Account.Platform, "error", err)
		return nil, unavailable("the challenge could not be sent")
	}
	return &output[keyapi.VerifyChallenge]{keyapi.VerifyChallenge{ID: c.ID[:], Token2: c.Token2, Expires: c.Expires}}, nil
}

// expireAtOnce bounds the clean-up that rides along with a write.
const expireAtOnce = 64

func (s *Server) challengeAllowed(ctx context.Context, u UserID, a keyapi.Account) error {
	now := s.Now()
	for _, key := range []string{"user " + u.String(), "network " + network(ctx)} {
		if wait, ok := s.limits.challengesFrom.take(key, now); !ok {
			return rateLimited(wait)
		}
	}
	if wait, ok := s.limits.challenges.take(bucketKey(a), now); !ok {
		return rateLimited(wait)
	}
	return nil
}

// bucketKey names an account in a throttle. Platforms have no NUL.
func bucketKey(a keyapi.Account) string { return a.Platform + "\x00" + a.ID }

// mayClaim refuses accounts of other users and a change of the identity key.
func mayClaim(r Reader, u UserID, a keyapi.Account, identityKey []byte) error {
	have, err := r.Account(a)
	switch {
	case err != nil || have == nil:
		return err
	case have.User != u:
		return conflict(keyapi.CodeTaken, "account belongs to another user")
	case !hmac.Equal(have.IdentityKey, identityKey):
		return conflict(keyapi.CodeConflict, "account has another identity key")
	}
	return nil
}

// addAccount claims an account.
func (s *Server) addAccount(ctx context.Context, in *input[keyapi.AccountRequest]) (*output[keyapi.AccountInfo], error) {
	r, id := &in.Body, caller(ctx)
	if err := checkAccount(r.Account, r.IdentityKey); err != nil {
		return nil, err
	}
	if wait, ok := s.limits.lookUps.take(id.user.String(), s.Now()); !ok { // the answer tells who exists
		return nil, rateLimited(wait)
	}
	level := proofNone
	if r.Proof != nil {
		if err := s.prove(ctx, id.user, r); err != nil {
			return nil, err
		}
		level = proofChallenge
	}
	var stored *Account
	err := s.Store.Update(ctx, func(w Writer) (err error) {
		if err := mayClaim(w, id.user, r.Account, r.IdentityKey); err != nil {
			return err
		}
		if r.Proof != nil {
			if err := useUp(w, ChallengeID(r.Proof.ID)); err != nil {
				return err
			}
		}
		stored, err = s.claim(w, id.user, r, level)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &output[keyapi.AccountInfo]{stored.info()}, nil
}

// claim stores the account, unless it was claimed before as well as now.
func (s *Server) claim(w Writer, u UserID, r *keyapi.AccountRequest, level int) (*Account, error) {
	stored, err := w.Account(r.Account)
	switch {
	case err != nil:
		return nil, err
	case stored != nil && stored.ProofLevel >= level:
		return stored, nil
	case stored != nil:
		stored.ProofLevel = level
		return stored, w.PutAccount(stored)
	case level == proofNone && slices.Contains(s.RequireProof, r.Account.Platform):
		return nil, verificationRequired("accounts of this platform must be verified first")
	}
	all, err := w.Accounts(u)
	if err != nil {
		return nil, err
	}
	if len(all) >= s.Limits.Accounts {
		return nil, quota("too many accounts")
	}
	stored = &Account{Account: r.Account, User: u, IdentityKey: r.IdentityKey, ProofLevel: level, Created: s.Now()}
	return stored, w.PutAccount(stored)
}

// useUp makes a challenge serve once: whoever comes second finds it gone.
func useUp(w Writer, id ChallengeID) error {
	c, err := w.Challenge(id)
	if err != nil || c == nil {
		return orErr(err, proofRefused())
	}
	return w.DeleteChallenge(id)
}

func (a *Account) info() keyapi.AccountInfo {
	return keyapi.AccountInfo{Account: a.Account, IdentityKey: a.IdentityKey, ProofLevel: a.ProofLevel}
}

func proofRefused() error { return forbidden("the proof does not hold, or its challenge has ended") }

// prove checks a proof. The try is counted in a transaction of its own before
// the proof is looked at, so that no crash or race gives more tries.
func (s *Server) prove(ctx context.Context, u UserID, r *keyapi.AccountRequest) error {
	if len(r.Proof.ID) != len(ChallengeID{}) {
		return invalid("proof id must have 16 octets")
	}
	var c *Challenge
	err := s.Store.Update(ctx, func(w Writer) (err error) {
		c, err = w.Challenge(ChallengeID(r.Proof.ID))
		if err != nil || c == nil {
			return err
		}
		if c.User != u { // not the caller's to use up
			c = nil
			return nil
		}
		if c.Tries >= challengeTries || s.Now().After(c.Expires) {
			id := c.ID
			c = nil
			return w.DeleteChallenge(id)
		}
		c.Tries++
		return w.PutChallenge(c)
	})
	if err != nil {
		return err
	}
	if c == nil || c.Account != r.Account || !hmac.Equal(c.IdentityKey, r.IdentityKey) {
		return proofRefused()
	}
	input := keyapi.ProofSigningInput(s.Origin, c.Account, c.IdentityKey, c.Token1, c.Token2)
	if !ed25519.Verify(c.IdentityKey, input, r.Proof.Signature) {
		return proofRefused()
	}
	return nil
}

func (s *Server) accounts(ctx context.Context, _ *struct{}) (*output[keyapi.AccountList], error) {
	id := caller(ctx)
	list := keyapi.AccountList{Accounts: []keyapi.AccountInfo{}}
	err := s.Store.View(ctx, func(r Reader) error {
		all, err := r.Accounts(id.user)
		for i := range all {
			list.Accounts = append(list.Accounts, all[i].info())
		}
		return err
	})
	return &output[keyapi.AccountList]{list}, err
}

// owned gives an account of the caller, or the problem that it is not theirs.
func owned(r Reader, u UserID, a keyapi.Account) (*Account, error) {
	if err := a.Check(); err != nil {
		return nil, invalid(err.Error())
	}
	have, err := r.Account(a)
	if err != nil {
		return nil, err
	}
	if have == nil || have.User != u {
		return nil, forbidden("not your account")
	}
	return have, nil
}
