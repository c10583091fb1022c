package state

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
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
	v, err := l.signInVault(username)
	if err != nil {
		return nil, err
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
	defer s.opener.Store(nil)
	if err := s.findDepot(ctx, wrapper, known); err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	if err := s.findRoot(ctx, wrapper, known); err != nil {
		return nil, err
	}
	// A device that has a vault has pins: else one that crashed between the two
	// would take other parameters at its next sign-in.
	if err := s.pin(p.KDF); err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	if err := s.enrol(ctx, wrapper); err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	return s, nil
}

// signInVault gives the vault of a device on which the user may sign in, nil on
// a new one.
func (l *locals) signInVault(username string) (*vault, error) {
	v, err := l.loadVault()
	switch {
	case err != nil:
		return nil, err
	case v != nil && v.Username != username:
		return nil, ErrOtherUser
	case v != nil && v.Pending != nil:
		return nil, ErrUnfinished
	}
	return v, nil
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
	if pinned != nil && !pinned.allow(p, c.Origin) {
		return p, ErrPinned
	}
	if p.AuthVersion != keys.AuthVersion {
		return p, errAuthVersion(p.AuthVersion)
	}
	if len(p.UserID) != keys.UserIDSize || v != nil && string(v.UserID) != string(p.UserID) {
		return p, ErrPinned
	}
	return p, keys.CheckKDF(p.KDF)
}

// allow tells whether parameters are the pinned ones, or others that a device
// of the user has set since.
func (x *pins) allow(p keyapi.AuthParams, origin string) bool {
	if x.AuthVersion != p.AuthVersion || string(x.UserID) != string(p.UserID) {
		return false
	}
	if same := sameKDF(x.KDF, p.KDF); same || len(x.Key) == 0 {
		return same
	}
	return hmac.Equal(keys.KDFTag(x.Key, keys.Scope{Origin: origin, User: x.UserID}, p.AuthVersion, p.KDF), p.KDFTag)
}

func sameKDF(a, b keyapi.KDF) bool {
	return a.Algorithm == b.Algorithm && string(a.Salt) == string(b.Salt) &&
		a.Time == b.Time && a.MemoryKiB == b.MemoryKiB && a.Threads == b.Threads
}

func errAuthVersion(v uint8) error {
	return fmt.Errorf("sign in: key server wants authentication version %d, this program knows %d", v, keys.AuthVersion)
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
	s.session.take(got)
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
		if err := s.takeRoot(ctx, w); err != nil {
			return err
		}
	} else if err := s.resumeView(ctx); err != nil {
		s.inform(ctx, "local copy of the state is read anew", err)
	}
	_, err := s.Refresh(ctx)
	if known && errors.Is(err, ErrDropped) {
		// The device was taken out of the user's, and somebody who knows the
		// password makes it one again. What it has seen still binds the server.
		if err := s.takeRoot(ctx, w); err != nil {
			return err
		}
		s.now.Store(nil)
		_, err = s.Refresh(ctx)
	}
	if err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	return nil
}

// takeRoot opens ROOT with a wrapper other than the device's. It is durable with
// the vault only.
func (s *Store) takeRoot(ctx context.Context, w *keys.Wrapper) error {
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
	if d := s.directions(); err != nil && d.Root != nil { // a recovery was cut off
		root, version, err = d.Root, d.RootVersion, nil
	}
	if err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	s.vaultMu.Lock()
	defer s.vaultMu.Unlock()
	if version < s.vault.RootVersion {
		return s.trip(&RollbackError{Reason: "an older root key was served", Seen: uint64(s.vault.RootVersion), Got: uint64(version)})
	}
	next := *s.vault
	next.Root, next.RootVersion = root, version
	s.vault = &next
	return nil
}

// enrol makes this device one of the user's, and the vault durable.
func (s *Store) enrol(ctx context.Context, password *keys.Wrapper) error {
	if d, ok := s.now.Load().profile.device(s.deviceID()); ok {
		if err := s.wrapFor(ctx, password); err != nil {
			return err
		}
		return s.settle(d.Slot)
	}
	var slot uint16
	// The server accepts the change before the vault is written: a crash in
	// between leaves a device in the list that nobody has, never a device whose
	// slot is not reserved.
	err := s.Update(ctx, func(t *Tx) (err error) {
		if slot, err = t.addDevice(); err != nil {
			return err
		}
		t.changeRing().signedInWith(password.Recipient())
		return t.wrapRoot()
	})
	if err != nil {
		return err
	}
	if err := s.settle(slot); err != nil {
		return err
	}
	s.resealLater(ctx)
	return s.forgetRoot(ctx)
}

// wrapFor makes a password that has signed in open ROOT at the store too, where a
// recovery was cut off before it did. Directions of before it do not tell.
func (s *Store) wrapFor(ctx context.Context, password *keys.Wrapper) error {
	if s.now.Load().ring.opensWith(password.Recipient()) {
		return s.forgetRoot(ctx)
	}
	_, d, err := s.fetchDirections(ctx)
	switch {
	case errors.Is(err, errNotMovable), problemCode(err) == keyapi.CodeNoRoute:
		return nil
	case err != nil:
		return err
	case !slices.ContainsFunc(d.For, func(r keys.Recipient) bool { return sameRecipient(r, password.Recipient()) }):
		return nil // whatever the key server let in, no device of the user has set this password
	}
	err = s.Update(ctx, func(t *Tx) error {
		t.changeRing().setRecipient(password.Recipient())
		return t.wrapRoot()
	})
	if err != nil {
		return err
	}
	return s.forgetRoot(ctx)
}

// forgetRoot ends what stands in for wraps at the store.
func (s *Store) forgetRoot(ctx context.Context) error {
	if s.directions().Root == nil {
		return nil
	}
	return s.changeDirections(ctx, func(d *directions) error {
		d.Root, d.RootVersion, d.For = nil, 0, nil
		return nil
	}, nil)
}

// settle makes the vault of a device durable that has its slot.
func (s *Store) settle(slot uint16) error {
	s.slot = slot
	return s.changeVault(func(v *vault) { v.Slot = slot })
}

func (s *Store) deviceID() []byte {
	s.vaultMu.Lock()
	defer s.vaultMu.Unlock()
	return slices.Clone(s.vault.DeviceID)
}

// addDevice lists this device in profile and keyring, unless it is there. The
// caller wraps ROOT.
func (t *Tx) addDevice() (slot uint16, err error) {
	s := t.store
	id := s.deviceID()
	if d, ok := t.base.profile.device(id); ok {
		return d.Slot, nil
	}
	own, err := s.deviceWrapper()
	if err != nil {
		return 0, err
	}
	p := t.changeProfile()
	if slot, err = p.newSlot(); err != nil {
		return 0, err
	}
	t.changeRing().note(event{At: s.cfg.Now().UTC(), Kind: EventDeviceAdded, Device: s.cfg.DeviceName})
	p.Devices = append(p.Devices, device{ID: id, Slot: slot, Name: s.cfg.DeviceName, Key: s.device().Key, Added: s.cfg.Now().UTC()})
	t.changeRing().setRecipient(own.Recipient())
	return slot, nil
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

// setRecipient makes n the only recipient of its kind and id.
func (r *keyring) setRecipient(n keys.Recipient) {
	r.Recipients = slices.DeleteFunc(r.Recipients, func(o keys.Recipient) bool { return o.Kind == n.Kind && o.ID == n.ID })
	r.Recipients = append(r.Recipients, n)
}

// signedInWith takes out the password that another one has replaced. One that came
// later is about to replace this one, or would have: it stays.
func (r *keyring) signedInWith(n keys.Recipient) {
	i := slices.IndexFunc(r.Recipients, func(o keys.Recipient) bool { return sameRecipient(o, n) })
	if i < 0 {
		r.setRecipient(n)
		return
	}
	later := slices.Clone(r.Recipients[i:])
	r.Recipients = slices.DeleteFunc(r.Recipients[:i], func(o keys.Recipient) bool { return o.Kind == n.Kind && o.ID == n.ID })
	r.Recipients = append(r.Recipients, later...)
}

func (r *keyring) opensWith(n keys.Recipient) bool {
	return slices.ContainsFunc(r.Recipients, func(o keys.Recipient) bool { return sameRecipient(o, n) })
}

func sameRecipient(a, b keys.Recipient) bool {
	return a.Kind == b.Kind && a.ID == b.ID && hmac.Equal(a.Authenticator, b.Authenticator)
}

// addRecipient leaves those of its kind and id as they are.
func (r *keyring) addRecipient(n keys.Recipient) { r.Recipients = append(r.Recipients, n) }

var errSession = errors.New("key server answered with a session of another user")
