package state

import (
	"context"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Recover signs in with the recovery code in place of a forgotten password, on
// a new device or a known one, and sets a new password. The code serves once;
// the one that replaces it is returned and not kept. All other sessions of the
// user end. A mistyped code (keys.ErrRecoveryCode) and an unusable password
// (keys.ErrPassword) are found before any request.
//
// Where Recover is cut off, either the old code still serves, or the new password
// does. In the latter case nobody has seen the new code; ReplaceRecoveryCode
// makes another.
func Recover(ctx context.Context, username, code, password string, c Config) (*Store, string, error) {
	if err := c.check(); err != nil {
		return nil, "", err
	}
	if _, err := keys.ParseRecoveryCode(code); err != nil {
		return nil, "", err
	}
	if _, err := keys.Normalize(password); err != nil {
		return nil, "", err
	}
	s, known, err := signInStore(ctx, foldName(username), c)
	if err != nil {
		return nil, "", err
	}
	wrapper, err := s.loginByCode(ctx, code)
	if err != nil {
		return nil, "", err
	}
	defer s.opener.Store(nil)
	if err := s.findDepot(ctx, wrapper, known); err != nil {
		return nil, "", fmt.Errorf("sign in: %w", err)
	}
	if err := s.findRoot(ctx, wrapper, known); err != nil {
		return nil, "", err
	}
	next, err := s.newPassword(password)
	if err != nil {
		return nil, "", fmt.Errorf("sign in: %w", err)
	}
	defer next.clear()
	fresh, err := next.newRecovery(s.scope)
	if err != nil {
		return nil, "", fmt.Errorf("sign in: %w", err)
	}
	var slot uint16
	err = s.replaceSecrets(ctx, nil, next, func(t *Tx) (err error) {
		if slot, err = t.addDevice(); err != nil {
			return err
		}
		t.note(EventRecovered)
		return nil
	})
	if err == nil {
		err = s.settle(slot)
	}
	if err != nil {
		return nil, "", fmt.Errorf("sign in: %w", err)
	}
	return s, fresh, nil
}

// signInStore makes the store of a device that is about to sign in without the
// password's parameters.
func signInStore(ctx context.Context, username string, c Config) (s *Store, known bool, err error) {
	l, err := newLocals(&c)
	if err != nil {
		return nil, false, err
	}
	v, err := l.signInVault(username)
	if err != nil {
		return nil, false, err
	}
	p, err := c.Server.Params(ctx, keyapi.ParamsRequest{Username: username})
	if err != nil {
		return nil, false, fmt.Errorf("sign in: %w", err)
	}
	pinned, err := l.loadPins(username)
	if err != nil {
		return nil, false, err
	}
	if p.AuthVersion != keys.AuthVersion {
		return nil, false, errAuthVersion(p.AuthVersion)
	}
	if len(p.UserID) != keys.UserIDSize || v != nil && !slices.Equal(v.UserID, p.UserID) || pinned != nil && !slices.Equal(pinned.UserID, p.UserID) {
		return nil, false, ErrPinned
	}
	if v == nil {
		if v, err = newVault(username, p.UserID, c); err != nil {
			return nil, false, err
		}
	}
	s = newStore(c, l, v)
	s.session.refresh = nil
	return s, v.RootVersion > 0, nil
}

// loginByCode proves the recovery code and keeps the session in memory.
func (s *Store) loginByCode(ctx context.Context, code string) (*keys.Wrapper, error) {
	auth, err := keys.RecoveryAuth(code, s.scope)
	if err != nil {
		return nil, err
	}
	defer clear(auth)
	wrapper, err := keys.FromRecoveryCode(code, s.scope)
	if err != nil {
		return nil, err
	}
	got, err := s.cfg.Server.Recover(ctx, keyapi.RecoverRequest{
		Username: s.Username(), AuthVersion: keys.AuthVersion, RecoveryAuth: auth, Device: s.device(),
	})
	if problemCode(err) == keyapi.CodeUnauthorized {
		return nil, ErrRecovery
	}
	if err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	return wrapper, s.holdSession(got)
}
