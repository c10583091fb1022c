package state

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// newVault makes the secrets of a new device.
func newVault(username string, user []byte, c Config) (*vault, error) {
	v := &vault{Version: vaultVersion, Origin: c.Origin, Username: username, UserID: user, DeviceID: make([]byte, 16)}
	if _, err := rand.Read(v.DeviceID); err != nil {
		return nil, fmt.Errorf("make device: %w", err)
	}
	for _, p := range []*[]byte{&v.DeviceSeed, &v.SignSeed, &v.LocalKey} {
		b, err := keys.NewSecret()
		if err != nil {
			return nil, err
		}
		*p = b
	}
	return v, nil
}

// Register creates the user and an empty state. The recovery code is returned
// once and is not kept anywhere. All secrets are durable on this device before
// the server hears of them: after a crash or a lost answer, Register with the
// same name, password and LocalStore continues where it was.
func Register(ctx context.Context, username, password string, c Config) (*Store, string, error) {
	if err := c.check(); err != nil {
		return nil, "", err
	}
	username = foldName(username)
	l, err := newLocals(&c)
	if err != nil {
		return nil, "", err
	}
	v, err := l.loadVault()
	if err != nil {
		return nil, "", err
	}
	resumed := v != nil
	switch {
	case !resumed:
		if v, err = newRegistration(username, c); err != nil {
			return nil, "", err
		}
	case v.Username != username:
		return nil, "", ErrOtherUser
	case v.Pending == nil:
		return nil, "", errors.New("register: this device is signed in already")
	}
	s := newStore(c, l, v)
	auth, wrapper, err := keys.FromPassword(password, v.Pending.KDF, s.scope)
	if err != nil {
		return nil, "", err
	}
	defer clear(auth)
	if err := l.saveVault(v); err != nil {
		return nil, "", err
	}
	if err := s.createUser(ctx, username, auth, resumed); err != nil {
		return nil, "", err
	}
	if err := s.createState(ctx, wrapper, v.Pending); err != nil {
		return nil, "", fmt.Errorf("register: %w", err)
	}
	code := v.Pending.Recovery
	if err = s.pin(v.Pending.KDF); err == nil {
		err = s.changeVault(func(v *vault) { v.Pending = nil })
	}
	if err != nil {
		return nil, "", fmt.Errorf("register: %w", err)
	}
	return s, code, nil
}

func newRegistration(username string, c Config) (*vault, error) {
	user := make([]byte, keys.UserIDSize)
	if _, err := rand.Read(user); err != nil {
		return nil, fmt.Errorf("make user id: %w", err)
	}
	v, err := newVault(username, user, c)
	if err != nil {
		return nil, err
	}
	p := &pending{KDF: c.KDF, Profile: &profile{Version: profileVersion}}
	if p.KDF.Algorithm == "" {
		if p.KDF, err = keys.NewKDF(); err != nil {
			return nil, err
		}
	}
	if err := keys.CheckKDF(p.KDF); err != nil {
		return nil, err
	}
	if p.Recovery, err = keys.NewRecoveryCode(); err != nil {
		return nil, err
	}
	if p.Ring, err = newKeyring(); err != nil {
		return nil, err
	}
	if v.Root, err = keys.NewSecret(); err != nil {
		return nil, err
	}
	if v.Slot, err = p.Profile.newSlot(); err != nil {
		return nil, err
	}
	v.RootVersion, v.Pending = 1, p
	return v, nil
}

// createUser registers, or signs in where an earlier attempt has registered.
func (s *Store) createUser(ctx context.Context, username string, auth []byte, resumed bool) error {
	d, p := s.device(), s.vault.Pending
	recovery, err := keys.RecoveryAuth(p.Recovery, s.scope)
	if err != nil {
		return err
	}
	defer clear(recovery)
	tag, err := p.Ring.kdfTag(s.scope, p.KDF)
	if err != nil {
		return err
	}
	got, err := s.cfg.Server.Register(ctx, keyapi.RegisterRequest{
		Username: username, AuthVersion: keys.AuthVersion, UserID: s.scope.User,
		KDF: p.KDF, KDFTag: tag, Auth: auth, RecoveryAuth: recovery, Device: d,
		Invitation: s.cfg.Invitation,
	})
	code := problemCode(err)
	if resumed && code == keyapi.CodeTaken {
		got, err = s.cfg.Server.Login(ctx, keyapi.LoginRequest{Username: username, AuthVersion: keys.AuthVersion, Auth: auth, Device: d})
		if problemCode(err) == keyapi.CodeUnauthorized {
			return fmt.Errorf("register: the name is taken: %w", ErrCredentials)
		}
	} else if !resumed && code != "" && code != keyapi.CodeInternal && code != keyapi.CodeUnavailable {
		// The server decided against it: there is nothing to continue.
		if e := s.cfg.Local.Update(func(w Writer) error { return w.Delete(bucketVault, keyDevice) }); e != nil {
			return fmt.Errorf("register: %w", errors.Join(err, e))
		}
	}
	if err != nil {
		return fmt.Errorf("register: %w", err)
	}
	return s.holdSession(got)
}

// createState writes the first head and what goes with it, or finds that an
// earlier attempt did.
func (s *Store) createState(ctx context.Context, password *keys.Wrapper, p *pending) error {
	n, objects, err := s.firstSnapshot(password, p)
	if err != nil {
		return err
	}
	st := &step{next: n, objects: map[keyapi.ObjectID][]byte{}}
	for _, o := range objects {
		st.objects[o.ID] = o.Data
	}
	st.wire.Put = objects
	err = s.send(ctx, st)
	switch {
	case err == nil:
		return s.publish(n, st.objects, nil)
	case problemCode(err) != keyapi.CodeConflict:
		return err
	}
	// There already: it is ours if it opens with our ROOT.
	if _, e := s.Refresh(ctx); e != nil {
		return errors.Join(err, e)
	}
	return nil
}

func (s *Store) firstSnapshot(password *keys.Wrapper, p *pending) (*snapshot, []keyapi.Object, error) {
	recovery, err := keys.FromRecoveryCode(p.Recovery, s.scope)
	if err != nil {
		return nil, nil, err
	}
	own, err := s.deviceWrapper()
	if err != nil {
		return nil, nil, err
	}
	root, rv := s.vault.Root, s.vault.RootVersion
	id, err := rootID(root)
	if err != nil {
		return nil, nil, err
	}
	base := &snapshot{view: emptyView(rootMark{rv, 1, id}), ring: p.Ring, profile: p.Profile, roots: map[uint32][]byte{rv: root}, newest: rv}
	t := s.begin(context.Background(), base)
	ring := t.changeRing()
	for _, w := range []*keys.Wrapper{password, recovery, own} {
		ring.setRecipient(w.Recipient())
	}
	if err := t.wrapRoot(); err != nil {
		return nil, nil, err
	}
	profile := p.Profile.clone()
	profile.Devices = append(profile.Devices, device{ID: s.vault.DeviceID, Slot: s.slot, Name: s.cfg.DeviceName, Key: s.device().Key, Added: s.cfg.Now().UTC()})
	b, err := profile.marshal()
	if err != nil {
		return nil, nil, err
	}
	t.putCore(TypeProfile, b, false)
	st, err := s.prepare(context.Background(), t)
	if err != nil {
		return nil, nil, err
	}
	return st.next, st.wire.Put, nil
}
