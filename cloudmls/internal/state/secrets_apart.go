package state

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// replaceApart is replaceSecrets where sign-in and sealed objects are two
// servers'. ROOT is wrapped for the new secrets beside the old ones, then the
// server that signs in is told, then the old wraps go. Between any two of these
// whatever signs in also opens the state, and the directions to it.
//
// A session that was opened with the recovery code (oldAuth is nil) may not change
// objects at the home store: there the directions hold ROOT for the new secrets
// until the wraps do.
func (s *Store) replaceApart(ctx context.Context, oldAuth []byte, x *secrets, also func(*Tx) error) error {
	inDirections := oldAuth == nil && s.depot.Load().home()
	if err := s.openFor(ctx, x, inDirections); err != nil {
		return err
	}
	crashpoint.Here("secrets-wrapped")
	if err := s.replaceVerifier(ctx, oldAuth, x); err != nil {
		if problemCode(err) == keyapi.CodeForbidden { // nothing came of it
			if e := s.unopenFor(ctx, x, inDirections); e != nil {
				return fmt.Errorf("%w; a wrap for the refused secret is left: %w", err, e)
			}
		}
		return err
	}
	crashpoint.Here("secrets-replaced")
	if oldAuth == nil {
		s.session.renew() // other servers may remember of the token that it serves for recovery only
	}
	err := s.Update(ctx, func(t *Tx) error {
		if also != nil {
			if err := also(t); err != nil {
				return err
			}
		}
		ring := t.changeRing()
		for _, r := range x.recipients() {
			ring.setRecipient(r)
		}
		return t.wrapRoot()
	})
	if err != nil {
		return err
	}
	if inDirections {
		err = s.forgetRoot(ctx)
	} else {
		err = s.resealDirections(ctx)
	}
	if err != nil { // they open with the new secrets, and the old ones cannot ask for them
		s.warn(ctx, "directions to the state are sealed to former secrets still", err)
	}
	return nil
}

// openFor makes the state open with the new secrets as well.
func (s *Store) openFor(ctx context.Context, x *secrets, inDirections bool) error {
	if inDirections {
		n := s.now.Load()
		return s.changeDirections(ctx, func(d *directions) error {
			d.Root, d.RootVersion, d.For = n.roots[n.newest], n.newest, x.recipients()
			return nil
		}, nil)
	}
	err := s.Update(ctx, func(t *Tx) error {
		ring := t.changeRing()
		for _, r := range x.recipients() {
			ring.addRecipient(r)
		}
		return t.wrapRoot()
	})
	if err != nil {
		return err
	}
	return s.resealDirections(ctx)
}

func (s *Store) unopenFor(ctx context.Context, x *secrets, inDirections bool) error {
	if inDirections {
		return s.forgetRoot(ctx)
	}
	if err := s.Update(ctx, func(t *Tx) error { return t.dropRecipients(x.recipients()) }); err != nil {
		return err
	}
	return s.resealDirections(ctx)
}

func (x *secrets) recipients() []keys.Recipient {
	list := []keys.Recipient{x.password.Recipient()}
	if x.recovery != nil {
		list = append(list, x.recovery.Recipient())
	}
	return list
}

// dropRecipients takes just these out. A recovery code that is replaced comes
// with the password that stays: the one of it that was there before stays too.
func (t *Tx) dropRecipients(gone []keys.Recipient) error {
	ring := t.changeRing()
	for _, r := range gone {
		for i := len(ring.Recipients) - 1; i >= 0; i-- {
			if o := ring.Recipients[i]; o.Kind == r.Kind && bytes.Equal(o.Authenticator, r.Authenticator) {
				ring.Recipients = slices.Delete(ring.Recipients, i, i+1)
				break
			}
		}
	}
	return t.wrapRoot()
}

// replaceVerifier changes what the key server verifies. A repetition of a request
// whose answer was lost is refused where the first one was carried out: then the
// parameters that the server names tell.
func (s *Store) replaceVerifier(ctx context.Context, oldAuth []byte, x *secrets) error {
	tag, err := s.now.Load().ring.kdfTag(s.scope, x.kdf)
	if err != nil {
		return err
	}
	r := keyapi.PasswordRequest{
		OldAuth: oldAuth, AuthVersion: keys.AuthVersion, KDF: x.kdf, KDFTag: tag, Auth: x.auth, RecoveryAuth: x.recoveryAuth,
	}
	for try := range maxSends {
		if try > 0 {
			if err := s.backOff(ctx, try+2); err != nil {
				break
			}
		}
		err = s.Authorized(ctx, func(ctx context.Context, token string) error {
			got, err := s.cfg.Server.ChangePassword(ctx, token, r)
			if err == nil && !got.Applied {
				err = errUnclear
			}
			return err
		})
		switch {
		case err == nil:
			return nil
		case settled(err) && try > 0 && (problemCode(err) == keyapi.CodeForbidden || oldAuth == nil && problemCode(err) == keyapi.CodeInvalid):
			p, e := s.cfg.Server.Params(ctx, keyapi.ParamsRequest{Username: s.Username()})
			if e == nil && bytes.Equal(p.KDF.Salt, x.kdf.Salt) {
				return nil
			}
			if e == nil {
				return err
			}
			return fmt.Errorf("outcome not known: %w", e)
		case settled(err):
			return err
		}
	}
	return fmt.Errorf("outcome not known: %w", err)
}
