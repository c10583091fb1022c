package keyserver

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
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

// bucketKey names an account in a throttle. Platforms have no NUL.
func bucketKey(a keyapi.Account) string { return a.Platform + "\x00" + a.ID }

// mayClaim refuses accounts of other users and a change of the identity key. An
// account that another user has claimed without a proof, on a platform whose
// accounts can be proven, gives way to who proves it.
func (s *Server) mayClaim(r Reader, u UserID, a keyapi.Account, identityKey []byte, proves bool) error {
	have, err := r.Account(a)
	switch {
	case err != nil || have == nil:
		return err
	case have.User != u && have.ProofLevel == keyapi.ProofNone && s.Challengers[a.Platform] != nil:
		if !proves {
			err = verificationRequired("another user has claimed the account without a proof; it becomes yours when you prove it")
		}
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
	level := keyapi.ProofNone
	if r.Proof != nil {
		if err := s.prove(ctx, id.user, r); err != nil {
			return nil, err
		}
		level = keyapi.ProofChallenge
	}
	var stored *Account
	var lost bool
	err := s.update(ctx, func(w Writer) (err error) {
		if err := s.mayClaim(w, id.user, r.Account, r.IdentityKey, r.Proof != nil); err != nil {
			return err
		}
		if r.Proof != nil {
			if err := useUp(w, ChallengeID(r.Proof.ID)); err != nil {
				return err
			}
		}
		if lost, err = s.dispossess(w, id.user, r.Account); err != nil {
			return err
		}
		stored, err = s.claim(w, id.user, r, level)
		return err
	}, r.Account)
	if err != nil {
		return nil, err
	}
	if lost {
		s.log.Warn("an account was proven by another user than the one who had claimed it without a proof", "account", s.logName(r.Account))
		s.waiting.wake([]keyapi.Account{r.Account}) // long-polls of who had it end
	}
	return &output[keyapi.AccountInfo]{stored.info()}, nil
}

// dispossess makes an account nobody's if it is another user's; whether that may
// be, mayClaim has said. KeyPackages and inbox go with it: the ones promise what
// only the user before can open, and so do the messages in the other. What the
// account was, its identity key, has no rotation that leads to the next one: to
// everybody it is the key of somebody else. Conversations stay, since the server
// does not know whose they are.
func (s *Server) dispossess(w Writer, u UserID, a keyapi.Account) (lost bool, err error) {
	have, err := w.Account(a)
	if err != nil || have == nil || have.User == u {
		return false, err
	}
	return true, deleteAccount(w, a, s.CipherSuites)
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
	case level == keyapi.ProofNone && slices.Contains(s.RequireProof, r.Account.Platform):
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

func (a *Account) info() keyapi.AccountInfo {
	return keyapi.AccountInfo{Account: a.Account, IdentityKey: a.IdentityKey, ProofLevel: a.ProofLevel}
}

func (s *Server) accounts(ctx context.Context, _ *struct{}) (*output[keyapi.AccountList], error) {
	id := caller(ctx)
	list := keyapi.AccountList{Accounts: []keyapi.AccountInfo{}}
	err := s.Store.View(ctx, func(r Reader) error {
		all, err := r.Accounts(id.user)
		if err != nil { // what there is of a list comes with the next run again
			return err
		}
		for i := range all {
			list.Accounts = append(list.Accounts, all[i].info())
		}
		return nil
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
