package state

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Open signs in with the password, on a new device or a known one. A new device
// needs nothing else; it adds itself to the user's devices. *keys.BoundsError
// and ErrPinned come before anything derived from the password is sent.
func Open(ctx context.Context, username, password string, c Config) (*Store, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	username = foldName(username)
	l, err := newLocals(&c)
	if err != nil {
		return nil, err
	}
	v, err := l.loadVault()
	if err != nil {
		return nil, err
	}
	switch {
	case v != nil && v.Username != username:
		return nil, ErrOtherUser
	case v != nil && v.Pending != nil:
		return nil, ErrUnfinished
	}
	p, err := signInParams(ctx, username, c, l, v)
	if err != nil {
		return nil, err
	}
	known := v != nil && v.RootVersion > 0
	if v == nil {
		if v, err = newVault(username, p.UserID, c); err != nil {
			return nil, err
		}
	}
	s := newStore(c, l, v)
	s.session.refresh = nil
	wrapper, err := s.login(ctx, username, password, p)
	if err != nil {
		return nil, err
	}
	if err := s.findRoot(ctx, wrapper, known); err != nil {
		return nil, err
	}
	if err := s.enrol(ctx, wrapper); err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	err = c.Local.Update(func(w Writer) error {
		return l.putPins(w, username, pins{UserID: p.UserID, AuthVersion: p.AuthVersion, KDF: p.KDF})
	})
	if err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	return s, nil
}

// foldName is how key servers compare user names.
func foldName(username string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, username)
}

// signInParams asks for the derivation parameters and holds them against
// bounds and pins.
func signInParams(ctx context.Context, username string, c Config, l *locals, v *vault) (keyapi.AuthParams, error) {
	p, err := c.Server.Params(ctx, keyapi.ParamsRequest{Username: username})
	if err != nil {
		return p, fmt.Errorf("sign in: %w", err)
	}
	pinned, err := l.loadPins(username)
	if err != nil {
		return p, err
	}
	if pinned != nil {
		same := pinned.AuthVersion == p.AuthVersion && string(pinned.UserID) == string(p.UserID) &&
			pinned.KDF.Algorithm == p.KDF.Algorithm && string(pinned.KDF.Salt) == string(p.KDF.Salt) &&
			pinned.KDF.Time == p.KDF.Time && pinned.KDF.MemoryKiB == p.KDF.MemoryKiB && pinned.KDF.Threads == p.KDF.Threads
		if !same {
			return p, ErrPinned
		}
	}
	if p.AuthVersion != keys.AuthVersion {
		return p, fmt.Errorf("sign in: key server wants authentication version %d, this program knows %d", p.AuthVersion, keys.AuthVersion)
	}
	if len(p.UserID) != keys.UserIDSize || v != nil && string(v.UserID) != string(p.UserID) {
		return p, ErrPinned
	}
	return p, keys.CheckKDF(p.KDF)
}

// login proves the password and keeps the session in memory: the vault of a
// new device is not written before the state was verified.
func (s *Store) login(ctx context.Context, username, password string, p keyapi.AuthParams) (*keys.Wrapper, error) {
	auth, wrapper, err := keys.FromPassword(password, p.KDF, s.scope)
	if err != nil {
		return nil, err
	}
	got, err := s.cfg.Server.Login(ctx, keyapi.LoginRequest{
		Username: username, AuthVersion: keys.AuthVersion, Auth: auth, Device: s.device(),
	})
	clear(auth)
	if problemCode(err) == keyapi.CodeUnauthorized {
		return nil, ErrCredentials
	}
	if err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	return wrapper, s.holdSession(got)
}

// holdSession keeps a session in memory until the vault is written. No other
// call is under way yet.
func (s *Store) holdSession(got keyapi.Session) error {
	if string(got.UserID) != string(s.scope.User) || got.AccessToken == "" || len(got.RefreshToken) == 0 {
		return errSession
	}
	s.session.access, s.session.refresh = got.AccessToken, slices.Clone(got.RefreshToken)
	s.vaultMu.Lock()
	defer s.vaultMu.Unlock()
	next := *s.vault
	next.Refresh = slices.Clone(got.RefreshToken)
	s.vault = &next
	return nil
}

func (s *Store) device() keyapi.Device {
	s.vaultMu.Lock()
	defer s.vaultMu.Unlock()
	public := ed25519.NewKeyFromSeed(s.vault.SignSeed).Public().(ed25519.PublicKey)
	return keyapi.Device{Name: s.cfg.DeviceName, Key: public}
}

// findRoot opens ROOT with the password on a device that does not have it, and
// verifies the state.
func (s *Store) findRoot(ctx context.Context, w *keys.Wrapper, known bool) error {
	if !known {
		id := bootstrapID(TypeWrap)
		got, err := s.objects(ctx, []keyapi.ObjectID{id})
		if err != nil {
			return fmt.Errorf("sign in: %w", err)
		}
		o, ok := got[id]
		if !ok {
			return ErrNoState
		}
		wraps, err := keys.ParseWraps(o.Data)
		if err != nil {
			return fmt.Errorf("sign in: %w", err)
		}
		root, version, err := w.Find(wraps)
		if err != nil {
			return fmt.Errorf("sign in: %w", err)
		}
		s.vaultMu.Lock()
		s.vault.Root, s.vault.RootVersion = root, version
		s.vaultMu.Unlock()
	} else if err := s.resumeView(ctx); err != nil {
		s.cfg.Logger.Info("local copy of the state is read anew", "cause", err)
	}
	if _, err := s.Refresh(ctx); err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	return nil
}

// enrol makes this device one of the user's, and the vault durable.
func (s *Store) enrol(ctx context.Context, password *keys.Wrapper) error {
	s.vaultMu.Lock()
	id := slices.Clone(s.vault.DeviceID)
	s.vaultMu.Unlock()
	if d, ok := s.now.Load().profile.device(id); ok {
		s.slot = d.Slot
		return s.changeVault(func(v *vault) { v.Slot = d.Slot })
	}
	own, err := s.deviceWrapper()
	if err != nil {
		return err
	}
	var slot uint16
	// The server accepts the change before the vault is written: a crash in
	// between leaves a device in the list that nobody has, never a device whose
	// slot is not reserved.
	err = s.Update(ctx, func(t *Tx) error {
		p := t.base.profile.clone()
		if slot, err = p.newSlot(); err != nil {
			return err
		}
		p.Devices = append(p.Devices, device{ID: id, Slot: slot, Name: s.cfg.DeviceName, Key: s.device().Key, Added: s.cfg.Now().UTC()})
		b, err := p.marshal()
		if err != nil {
			return err
		}
		t.putCore(TypeProfile, b, false)
		ring := t.changeRing()
		ring.setRecipient(password.Recipient())
		ring.setRecipient(own.Recipient())
		return t.wrapRoot()
	})
	if err != nil {
		return err
	}
	s.slot = slot
	return s.changeVault(func(v *vault) { v.Slot = slot })
}

// wrapRoot writes the wraps of the newest ROOT for all recipients of the
// keyring as this transaction leaves it.
func (t *Tx) wrapRoot() error {
	root, version := t.base.roots[t.base.newest], t.base.newest
	if t.root != nil {
		root, version = t.root.key, t.root.version
	}
	var wraps []keys.Wrap
	for _, r := range t.changeRing().Recipients {
		w, err := r.Root(root, version, t.store.scope)
		if err != nil {
			return err
		}
		wraps = append(wraps, w)
	}
	b, err := keys.MarshalWraps(wraps)
	if err != nil {
		return err
	}
	t.putCore(TypeWrap, b, true)
	return nil
}

func (r *keyring) setRecipient(n keys.Recipient) {
	for i, o := range r.Recipients {
		if o.Kind == n.Kind && o.ID == n.ID {
			r.Recipients[i] = n
			return
		}
	}
	r.Recipients = append(r.Recipients, n)
}

var errSession = errors.New("key server answered with a session of another user")
