package state

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// secrets are what a user signs in with from one change on: a password and,
// where it is replaced too, a recovery code.
type secrets struct {
	kdf          keyapi.KDF
	auth         []byte
	password     *keys.Wrapper
	recovery     *keys.Wrapper // nil: it stays
	recoveryAuth []byte
}

func (x *secrets) clear() { clear(x.auth); clear(x.recoveryAuth) }

// ChangePassword replaces the password. One transaction at the key server
// changes what it verifies, the wrap of ROOT for the password, and ends all
// other sessions of the user; nothing else is sealed anew. After a crash at any
// point either the old or the new password works. ErrCredentials: old is wrong.
func (s *Store) ChangePassword(ctx context.Context, old, password string) error {
	if _, err := keys.Normalize(password); err != nil {
		return err
	}
	oldAuth, _, err := s.provePassword(ctx, old)
	if err != nil {
		return fmt.Errorf("change password: %w", err)
	}
	defer clear(oldAuth)
	next, err := s.newPassword(password)
	if err != nil {
		return fmt.Errorf("change password: %w", err)
	}
	defer next.clear()
	if err := s.replaceSecrets(ctx, oldAuth, next, noting(EventPassword)); err != nil {
		return fmt.Errorf("change password: %w", err)
	}
	return nil
}

// ReplaceRecoveryCode makes another recovery code, which is returned once and
// not kept; the one before is void. All other sessions of the user end.
func (s *Store) ReplaceRecoveryCode(ctx context.Context, password string) (string, error) {
	auth, next, err := s.provePassword(ctx, password)
	if err != nil {
		return "", fmt.Errorf("replace recovery code: %w", err)
	}
	defer next.clear()
	code, err := next.newRecovery(s.scope)
	if err != nil {
		return "", fmt.Errorf("replace recovery code: %w", err)
	}
	if err := s.replaceSecrets(ctx, auth, next, noting(EventRecoveryCode)); err != nil {
		return "", fmt.Errorf("replace recovery code: %w", err)
	}
	return code, nil
}

// provePassword derives what the key server knows the present password by, and
// finds out here, without a request that could be counted as a guess, whether
// it is the right one. What this device has noted of how it is stretched may be
// old: the disk failed, or the device crashed, after the password was changed.
func (s *Store) provePassword(ctx context.Context, password string) ([]byte, *secrets, error) {
	if _, err := s.Refresh(ctx); err != nil {
		return nil, nil, err
	}
	pinned, err := s.locals.loadPins(s.Username())
	if err != nil {
		return nil, nil, err
	}
	if pinned == nil {
		return nil, nil, errors.New("sign-in parameters are not known on this device; sign in again")
	}
	x, err := s.stretch(password, pinned.KDF)
	if errors.Is(err, ErrCredentials) {
		x, err = s.stretchAnew(ctx, password, pinned.KDF)
	}
	if err != nil {
		return nil, nil, err
	}
	return slices.Clone(x.auth), x, nil
}

// stretch gives what follows from the password if ROOT is wrapped for it, else
// ErrCredentials.
func (s *Store) stretch(password string, k keyapi.KDF) (*secrets, error) {
	x := &secrets{kdf: k}
	var err error
	if x.auth, x.password, err = keys.FromPassword(password, k, s.scope); errors.Is(err, keys.ErrPassword) {
		return nil, ErrCredentials
	} else if err != nil {
		return nil, err
	}
	is := func(r keys.Recipient) bool {
		return r.Kind == keys.KindPassword && subtle.ConstantTimeCompare(r.Authenticator, x.password.Recipient().Authenticator) == 1
	}
	if !slices.ContainsFunc(s.now.Load().ring.Recipients, is) {
		x.clear()
		return nil, ErrCredentials
	}
	return x, nil
}

// stretchAnew is stretch with the key server's parameters, where a device of the
// user has set others than the noted ones; those are noted then.
func (s *Store) stretchAnew(ctx context.Context, password string, noted keyapi.KDF) (*secrets, error) {
	s.vaultMu.Lock()
	v := *s.vault
	s.vaultMu.Unlock()
	p, err := signInParams(ctx, v.Username, s.cfg, s.locals, &v)
	if err != nil {
		return nil, err
	}
	if sameKDF(p.KDF, noted) {
		return nil, ErrCredentials
	}
	x, err := s.stretch(password, p.KDF)
	if err != nil {
		return nil, err
	}
	if err := s.pin(p.KDF); err != nil {
		x.clear()
		return nil, err
	}
	return x, nil
}

// newPassword stretches a new password, with a salt of its own.
func (s *Store) newPassword(password string) (*secrets, error) {
	k, err := keys.NewKDF()
	if err != nil {
		return nil, err
	}
	if c := s.cfg.KDF; c.Algorithm != "" {
		k.Time, k.MemoryKiB, k.Threads = c.Time, c.MemoryKiB, c.Threads
	}
	x := &secrets{kdf: k}
	x.auth, x.password, err = keys.FromPassword(password, k, s.scope)
	return x, err
}

// newRecovery adds a fresh recovery code.
func (x *secrets) newRecovery(scope keys.Scope) (code string, err error) {
	if code, err = keys.NewRecoveryCode(); err != nil {
		return "", err
	}
	if x.recovery, err = keys.FromRecoveryCode(code, scope); err != nil {
		return "", err
	}
	x.recoveryAuth, err = keys.RecoveryAuth(code, scope)
	return code, err
}

// replaceSecrets changes the wraps and what the key server verifies in one
// step. also, if not nil, adds to it. The answer may be lost: then the head
// tells whether it happened.
func (s *Store) replaceSecrets(ctx context.Context, oldAuth []byte, x *secrets, also func(*Tx) error) error {
	err := s.Update(ctx, func(t *Tx) error {
		if also != nil {
			if err := also(t); err != nil {
				return err
			}
		}
		ring := t.changeRing()
		ring.setRecipient(x.password.Recipient())
		if x.recovery != nil {
			ring.setRecipient(x.recovery.Recipient())
		}
		tag, err := ring.kdfTag(s.scope, x.kdf)
		if err != nil {
			return err
		}
		if !s.depot.Load().home() {
			return keyapi.ErrSplit
		}
		t.via = func(ctx context.Context, wire keyapi.Tx) error {
			return s.Authorized(ctx, func(ctx context.Context, token string) error {
				return applied(s.cfg.Server.ChangePassword(ctx, token, keyapi.PasswordRequest{
					OldAuth: oldAuth, AuthVersion: keys.AuthVersion, KDF: x.kdf, KDFTag: tag, Auth: x.auth,
					RecoveryAuth: x.recoveryAuth, Tx: wire,
				}))
			})
		}
		return t.wrapRoot()
	})
	if errors.Is(err, keyapi.ErrSplit) {
		err = s.replaceApart(ctx, oldAuth, x, also)
	} else if err == nil {
		s.resealLater(ctx)
	}
	if problemCode(err) == keyapi.CodeForbidden {
		return ErrCredentials
	}
	if err != nil {
		return err
	}
	if err := s.pin(x.kdf); err != nil { // the tag makes up for it at the next sign-in
		s.warn(ctx, "new sign-in parameters were not noted", err)
	}
	return nil
}

// pin notes how the user's password is stretched now.
func (s *Store) pin(k keyapi.KDF) error {
	key, err := s.now.Load().ring.signInKey()
	if err != nil {
		return err
	}
	return s.cfg.Local.Update(func(w Writer) error {
		return s.locals.putPins(w, s.Username(), pins{UserID: s.scope.User, AuthVersion: keys.AuthVersion, KDF: k, Key: key})
	})
}

func (r *keyring) signInKey() ([]byte, error) { return keys.Derive(r.Secret, keys.PurposeSignIn) }

func (r *keyring) kdfTag(scope keys.Scope, k keyapi.KDF) ([]byte, error) {
	key, err := r.signInKey()
	if err != nil {
		return nil, err
	}
	return keys.KDFTag(key, scope, keys.AuthVersion, k), nil
}
