package keyserver

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"regexp"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Challenger carries the first half of a challenge to an account over the
// account's own platform: mail, a messenger. It returns when the platform has
// taken the message over; an error makes the server tell the client to try
// again. It must not put anything into the message that is not in m, and m has
// nothing that the caller of the API could choose but the account. It is
// called from many goroutines; ctx ends after 30 seconds.
type Challenger interface {
	SendToken(ctx context.Context, m ChallengeMessage) error
}

// ChallengeMessage is what goes to the account.
type ChallengeMessage struct {
	Origin  string // of the key server, which the answer is bound to
	Account keyapi.Account
	ID      ChallengeID
	Token1  []byte // 16 octets, for a program that answers by itself
	Code    string // the same for a person, e.g. "K7X2-M9QP"
	Expires time.Time
}

const (
	challengeLifetime = 15 * time.Minute
	challengeTries    = 5
	challengeTimeout  = 30 * time.Second // for handing it to the platform
	tokenHalfSize     = 16
	// challengeSendings are how often one challenge is handed to the platform,
	// which may have failed; requests at the same time count too.
	challengeSendings = 3
)

// verify starts a proof of ownership. The same request again, by its
// Idempotency-Key, gives the same challenge and sends it once.
func (s *Server) verify(ctx context.Context, in *repeatable[keyapi.VerifyRequest]) (*output[keyapi.VerifyChallenge], error) {
	r, id := &in.Body, caller(ctx)
	if err := checkAccount(r.Account, r.IdentityKey); err != nil {
		return nil, err
	}
	challenger := s.Challengers[r.Account.Platform]
	if challenger == nil {
		return nil, verificationRequired("this server cannot verify accounts of this platform")
	}
	once, err := s.once(ctx, in.Key, "verify", id.user[:], in.RawBody)
	if err != nil {
		return nil, err
	}
	for _, key := range []string{"user " + id.user.String(), "network " + network(ctx)} {
		if wait, ok := s.limits.challengesFrom.take(key, s.Now()); !ok {
			return nil, rateLimited(wait)
		}
	}
	var c *Challenge
	err = s.update(ctx, func(w Writer) error {
		c = nil
		var before keyapi.VerifyChallenge
		if found, err := once.replay(w, &before); err != nil || found {
			if err == nil {
				c, err = w.Challenge(ChallengeID(before.ID))
			}
			if err := orErr(err, goneUnless(c != nil)); err != nil || c.Sent {
				return err
			}
			if c.Sendings++; c.Sendings > challengeSendings {
				return goneUnless(false)
			}
			return w.PutChallenge(c)
		}
		if err := s.mayClaim(w, id.user, r.Account, r.IdentityKey, true); err != nil {
			return err
		}
		if err := w.Expire(s.Now(), expireAtOnce); err != nil {
			return err
		}
		c = newChallenge(id.user, r, s.Now())
		c.Sendings = 1
		if err := s.countChallenge(w, c); err != nil {
			return err
		}
		if err := w.PutChallenge(c); err != nil {
			return err
		}
		return once.keep(w, c.answer())
	})
	if err != nil {
		return nil, err
	}
	if err := s.send(ctx, challenger, c); err != nil {
		return nil, err
	}
	return &output[keyapi.VerifyChallenge]{Body: c.answer()}, nil
}

func goneUnless(there bool) error {
	if there {
		return nil
	}
	return conflict(keyapi.CodeKeyReused, "the challenge of this request has been used or has ended: ask with a new key")
}

func newChallenge(u UserID, r *keyapi.VerifyRequest, now time.Time) *Challenge {
	c := &Challenge{
		User: u, Account: r.Account, IdentityKey: r.IdentityKey,
		Token1: make([]byte, tokenHalfSize), Token2: make([]byte, tokenHalfSize), Expires: now.Add(challengeLifetime),
	}
	rand.Read(c.ID[:])
	rand.Read(c.Token1)
	rand.Read(c.Token2)
	var code [5]byte
	rand.Read(code[:])
	c.Code = keyapi.NewProofCode(code)
	return c
}

func (c *Challenge) answer() keyapi.VerifyChallenge {
	return keyapi.VerifyChallenge{ID: c.ID[:], Token2: c.Token2, Expires: c.Expires}
}

// countChallenge bounds how many go to one account within a day, however many
// users, networks and processes of the server ask for them.
func (s *Server) countChallenge(w Writer, c *Challenge) error {
	limit := s.Limits.Challenges
	if limit.Burst < 0 {
		return nil
	}
	now, owner := s.Now(), s.hidden("account", bucketKey(c.Account))
	sent, err := w.NotesOf(NoteChallenged, owner, now, limit.Burst)
	if err != nil {
		return err
	}
	if len(sent) >= limit.Burst {
		first := sent[0].Expires
		for i := range sent {
			if sent[i].Expires.Before(first) {
				first = sent[i].Expires
			}
		}
		return rateLimited(first.Sub(now))
	}
	return w.PutNote(&Note{
		Kind: NoteChallenged, Owner: owner, Key: c.ID[:], Expires: now.Add(time.Duration(limit.Burst) * limit.Every),
	})
}

// send hands a challenge to its platform, once: a crash in between costs a
// second message, never the first one.
func (s *Server) send(ctx context.Context, to Challenger, c *Challenge) error {
	if c.Sent {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, challengeTimeout)
	defer cancel()
	err := to.SendToken(ctx, ChallengeMessage{
		Origin: s.Origin, Account: c.Account, ID: c.ID, Token1: c.Token1, Code: string(c.Code[:4]) + "-" + string(c.Code[4:]), Expires: c.Expires,
	})
	if err != nil {
		s.log.Warn("challenge could not be sent", "platform", c.Account.Platform, "account", s.logName(c.Account), "error", s.withoutName(err, c.Account))
		return unavailable("the challenge could not be sent")
	}
	return s.Store.Update(ctx, func(w Writer) error {
		now, err := w.Challenge(c.ID)
		if err != nil || now == nil {
			return err
		}
		now.Sent = true
		return w.PutChallenge(now)
	})
}

// withoutName takes an account's id out of an error of its platform: relays
// quote the address that they refuse, and some fold its case.
func (s *Server) withoutName(err error, a keyapi.Account) error {
	id, err2 := regexp.Compile("(?i)" + regexp.QuoteMeta(a.ID))
	if err2 != nil {
		return errors.New("the reason may name the account")
	}
	return errors.New(id.ReplaceAllLiteralString(err.Error(), s.logName(a)))
}

// hidden is a keyed hash of what must not lie about in clear.
func (s *Server) hidden(what, name string) []byte {
	m := hmac.New(sha256.New, s.hideKey)
	m.Write([]byte(what + "\x00" + name))
	return m.Sum(nil)
}

// useUp makes a challenge serve once: whoever comes second finds it gone.
func useUp(w Writer, id ChallengeID) error {
	c, err := w.Challenge(id)
	if err != nil || c == nil {
		return orErr(err, proofRefused())
	}
	return w.DeleteChallenge(id)
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
	// Nothing is compared with the tokens: the signature holds over one of them
	// or over none, and says nothing of how close it came.
	byProgram := keyapi.ProofSigningInput(s.Origin, c.Account, c.IdentityKey, c.Token1, c.Token2)
	byPerson := keyapi.ProofSigningInput(s.Origin, c.Account, c.IdentityKey, c.Code, c.Token2)
	typed := len(c.Code) > 0 && ed25519.Verify(c.IdentityKey, byPerson, r.Proof.Signature)
	if !ed25519.Verify(c.IdentityKey, byProgram, r.Proof.Signature) && !typed {
		return proofRefused()
	}
	return nil
}
