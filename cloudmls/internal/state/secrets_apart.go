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
// whatever signs in also opens the state.
func (s *Store) replaceApart(ctx context.Context, oldAuth []byte, x *secrets, also func(*Tx) error) error {
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
	crashpoint.Here("secrets-wrapped")
	if err := s.replaceVerifier(ctx, oldAuth, x); err != nil {
		if problemCode(err) == keyapi.CodeForbidden { // nothing came of it
			if e := s.Update(ctx, func(t *Tx) error { return t.dropRecipients(x.recipients()) }); e != nil {
				return fmt.Errorf("%w; a wrap for the refused secret is left: %w", err, e)
			}
		}
		return err
	}
	crashpoint.Here("secrets-replaced")
	return s.Update(ctx, func(t *Tx) error {
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
		case settled(err) && try > 0 && problemCode(err) == keyapi.CodeForbidden:
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
