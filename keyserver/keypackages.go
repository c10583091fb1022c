package keyserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// maxLifetime is the longest total lifetime of a published KeyPackage.
const maxLifetime = 120 * 24 * time.Hour

// CheckLeafCert is the default of Options.CheckKeyPackage: the credential is
// basic, its identity is a keyapi.LeafCert for this account, signed by the
// account's identity key, and speaks of this leaf key, suite and time.
func CheckLeafCert(a keyapi.Account, identityKey []byte, kp *mls.KeyPackage, now time.Time) error {
	credential := kp.Credential()
	if credential.Type != mls.CredentialBasic {
		return errors.New("credential is not basic")
	}
	c, err := keyapi.ParseLeafCert(credential.Identity)
	if err != nil {
		return err
	}
	switch {
	case c.Account() != a:
		return errors.New("credential names another account")
	case !bytes.Equal(c.IdentityKey, identityKey):
		return errors.New("credential has another identity key")
	case !bytes.Equal(c.LeafKey, kp.SignatureKey()):
		return errors.New("credential has another leaf key")
	case c.Suite != uint16(kp.CipherSuite()):
		return errors.New("credential is for another cipher suite")
	case !c.ValidAt(now):
		return errors.New("credential is not valid at this time")
	}
	return c.Verify()
}

// checkKeyPackage does what RFC 9420 section 10.1 asks of a recipient, and asks
// whether the credential is that of the account (section 5.3.1).
func (s *Server) checkKeyPackage(a *Account, b []byte, lastResort bool) (*pooled, error) {
	if len(b) > keyapi.MaxKeyPackageSize {
		return nil, fmt.Errorf("%d octets, limit %d", len(b), keyapi.MaxKeyPackageSize)
	}
	kp, err := mls.ParseKeyPackage(b)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(s.CipherSuites, kp.CipherSuite()) {
		return nil, errors.New("cipher suite is not accepted here")
	}
	if err := kp.Verify(s.Now()); err != nil {
		return nil, err
	}
	life := kp.Lifetime()
	if life.NotAfter < life.NotBefore || life.NotAfter-life.NotBefore > uint64(maxLifetime/time.Second) {
		return nil, errors.New("lifetime is longer than 120 days")
	}
	if kp.IsLastResort() != lastResort {
		return nil, errors.New("last-resort extension and place in the upload do not agree")
	}
	if err := s.CheckKeyPackage(a.Account, a.IdentityKey, kp); err != nil {
		return nil, err
	}
	// The end is at most 120 days after a beginning that lies in the past.
	return &pooled{kp.CipherSuite(), &KeyPackage{Ref: []byte(kp.Ref()), NotAfter: time.Unix(int64(life.NotAfter), 0), Data: b}}, nil
}

// pooled is a KeyPackage and the pool that it belongs to.
type pooled struct {
	suite mls.CipherSuite
	*KeyPackage
}

type accountPath struct {
	Platform string `path:"platform"`
	ID       string `path:"id"`
}

func (p accountPath) account() keyapi.Account { return keyapi.Account{Platform: p.Platform, ID: p.ID} }

// uploadInput repeats accountPath: huma does not see fields of unexported
// embedded types.
type uploadInput struct {
	Platform string `path:"platform"`
	ID       string `path:"id"`
	Body     keyapi.KeyPackageUpload
}

func (in *uploadInput) account() keyapi.Account { return accountPath{in.Platform, in.ID}.account() }

func (s *Server) uploadKeyPackages(ctx context.Context, in *uploadInput) (*output[keyapi.KeyPackageCount], error) {
	u, r := caller(ctx).user, &in.Body
	if len(r.KeyPackages) > keyapi.MaxKeyPackages {
		return nil, invalid("too many KeyPackages in one upload")
	}
	if wait, ok := s.limits.writes.take(u.String(), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	var account *Account
	err := s.Store.View(ctx, func(r Reader) (err error) {
		account, err = owned(r, u, in.account())
		return err
	})
	if err != nil {
		return nil, err
	}
	var pool []*pooled
	for i, b := range r.KeyPackages {
		kp, err := s.checkKeyPackage(account, b, false)
		if err != nil {
			return nil, invalid(fmt.Sprintf("key_packages[%d]: %v", i, err))
		}
		pool = append(pool, kp)
	}
	var lastResort *pooled
	if len(r.LastResort) > 0 {
		if lastResort, err = s.checkKeyPackage(account, r.LastResort, true); err != nil {
			return nil, invalid(fmt.Sprintf("last_resort: %v", err))
		}
	}
	var count keyapi.KeyPackageCount
	err = s.update(ctx, func(w Writer) (err error) {
		now, err := owned(w, u, account.Account)
		if err != nil {
			return err
		}
		if !bytes.Equal(now.IdentityKey, account.IdentityKey) { // rotated since they were checked
			return conflict(keyapi.CodeConflict, "account has another identity key")
		}
		if err := s.addToPool(w, account.Account, pool); err != nil {
			return err
		}
		if lastResort != nil {
			if err := w.PutLastResort(poolName(account.Account, lastResort.suite), lastResort.KeyPackage); err != nil {
				return err
			}
		}
		// More than is added, or references of short lives would pile up.
		if err := w.Expire(s.Now(), expireAtOnce+2*len(pool)); err != nil {
			return err
		}
		count, err = s.countPools(w, account.Account)
		return err
	}, account.Account)
	return &output[keyapi.KeyPackageCount]{count}, err
}

// addToPool makes room first: what has ended goes. It skips what was there before, handed out already or not: an upload
// whose answer was lost is sent again, and nothing is handed out twice.
func (s *Server) addToPool(w Writer, of keyapi.Account, pool []*pooled) error {
	available := map[mls.CipherSuite]int{}
	for _, cs := range s.CipherSuites {
		a := poolName(of, cs)
		if err := w.DropEndedKeyPackages(a, s.Now()); err != nil {
			return err
		}
		count, err := w.KeyPackageCount(a, s.Now())
		if err != nil {
			return err
		}
		available[cs] = count.Available
	}
	for _, kp := range pool {
		a := poolName(of, kp.suite)
		known, err := w.KeyPackageKnown(a, kp.Ref)
		if err != nil {
			return err
		}
		if known {
			continue
		}
		if available[kp.suite]++; available[kp.suite] > s.Limits.KeyPackages {
			return quota("too many KeyPackages in the pool")
		}
		if err := w.AddKeyPackage(a, kp.KeyPackage); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) countKeyPackages(ctx context.Context, in *accountPath) (*output[keyapi.KeyPackageCount], error) {
	var count keyapi.KeyPackageCount
	err := s.Store.View(ctx, func(r Reader) (err error) {
		if _, err := owned(r, caller(ctx).user, in.account()); err != nil {
			return err
		}
		count, err = s.countPools(r, in.account())
		return err
	})
	return &output[keyapi.KeyPackageCount]{count}, err
}

// claimInput repeats accountPath, like uploadInput.
type claimInput struct {
	Platform string `path:"platform"`
	ID       string `path:"id"`
	Suite    uint16 `query:"suite" doc:"Cipher suite of the KeyPackage; none: 1."`
	Key      string `header:"Idempotency-Key" doc:"As with other routes: the same KeyPackage again for 24 hours."`
}

func (in *claimInput) account() keyapi.Account { return accountPath{in.Platform, in.ID}.account() }

// claimKeyPackage hands out one KeyPackage. It is gone from the pool before it
// is on the wire: a lost answer costs a KeyPackage, never its single use.
func (s *Server) claimKeyPackage(ctx context.Context, in *claimInput) (*output[keyapi.ClaimedKeyPackage], error) {
	who, a := bearer(ctx), in.account()
	if err := a.Check(); err != nil {
		return nil, invalid(err.Error())
	}
	cs, err := s.claimable(in.Suite)
	if err != nil {
		return nil, err
	}
	admitted := sync.OnceValue(func() error { return s.admitClaim(who.user, a, s.Now()) })
	once, err := s.once(ctx, in.Key, "claim", who.user[:], []byte(bucketKey(poolName(a, cs))))
	if err != nil {
		return nil, err
	}
	var claimed keyapi.ClaimedKeyPackage
	now := s.Now()
	plan := &Plan{User: who.user, Session: who.session, Accounts: []keyapi.Account{a}, Pool: poolName(a, cs), Now: now}
	err = s.Store.Update(ctx, func(w Writer) error {
		if err := w.Foresee(plan); err != nil {
			return err
		}
		if err := s.present(w, who); err != nil {
			return err
		}
		if err := admitted(); err != nil {
			return err
		}
		if found, err := once.replay(w, &claimed); err != nil || found {
			return err
		}
		account, err := w.Account(a)
		if err != nil {
			return err
		}
		if account == nil {
			return notFound(keyapi.CodeNoAccount, "nobody has this account here")
		}
		kp, lastResort, err := w.TakeKeyPackage(poolName(a, cs), now)
		if err != nil {
			return err
		}
		if kp == nil {
			return notFound(keyapi.CodeNoKeyPackage, "the account has no KeyPackage left")
		}
		claimed = keyapi.ClaimedKeyPackage{KeyPackage: kp.Data, LastResort: lastResort}
		crashpoint.Here("keypackage-taken")
		return once.keep(w, claimed)
	})
	return &output[keyapi.ClaimedKeyPackage]{claimed}, err
}

// admitClaim counts a claim, of a session that exists.
func (s *Server) admitClaim(u UserID, a keyapi.Account, now time.Time) error {
	if wait, ok := s.limits.lookUps.take(u.String(), now); !ok { // the answer tells who exists
		return rateLimited(wait)
	}
	if wait, ok := s.limits.claims.take(u.String()+bucketKey(a), now); !ok {
		return rateLimited(wait)
	}
	return nil
}

// reachable is the only place that says that an account does not exist.
func (s *Server) reachable(ctx context.Context, in *accountPath) (*output[keyapi.Reachability], error) {
	a := in.account()
	if err := a.Check(); err != nil {
		return nil, invalid(err.Error())
	}
	if wait, ok := s.limits.lookUps.take(caller(ctx).user.String(), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	answer := keyapi.Reachability{Account: a}
	err := s.Store.View(ctx, func(r Reader) error {
		have, err := r.Account(a)
		if have != nil {
			answer.HasAccount, answer.IdentityKey, answer.Rotations = true, have.IdentityKey, have.Rotations
			answer.Suites, err = s.suitesOf(r, a)
		}
		return err
	})
	return &output[keyapi.Reachability]{answer}, err
}
