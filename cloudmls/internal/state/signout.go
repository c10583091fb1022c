package state

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// SignOut removes this device from the user's state, ends its session and wipes
// its local records, the cache included; the store is closed then. What pins
// the server (sign-in parameters, floors) stays. The local records are wiped
// even where the server cannot be told; the error then says so.
func (s *Store) SignOut(ctx context.Context) error {
	if s.closed.Load() {
		return ErrClosed
	}
	err := s.leave(ctx)
	err = errors.Join(err, s.logoutAtStore(ctx))
	if e := s.Authorized(ctx, func(ctx context.Context, token string) error { return s.cfg.Server.Logout(ctx, token) }); e != nil && !errors.Is(e, ErrSignedOut) {
		err = errors.Join(err, fmt.Errorf("end session: %w", e))
	}
	s.closed.Store(true)
	if e := s.wipe(); e != nil {
		err = errors.Join(err, fmt.Errorf("wipe local store: %w", e))
	}
	return err
}

// EndSession ends this device's session at the server and forgets its token; the
// local records stay, sealed, and the device stays one of the user's. The store
// is closed then: Resume reads what is there, Open continues. Where the server
// cannot be told, the token is forgotten all the same, and the error says so.
func (s *Store) EndSession(ctx context.Context) error {
	if s.closed.Load() {
		return ErrClosed
	}
	err := s.Flush()
	err = errors.Join(err, s.logoutAtStore(ctx))
	if e := s.Authorized(ctx, func(ctx context.Context, token string) error { return s.cfg.Server.Logout(ctx, token) }); e != nil && !errors.Is(e, ErrSignedOut) {
		err = errors.Join(err, fmt.Errorf("end session: %w", e))
	}
	s.closed.Store(true)
	if e := s.changeVault(func(v *vault) { v.Refresh = nil }); e != nil {
		err = errors.Join(err, fmt.Errorf("forget session: %w", e))
	}
	return err
}

// logoutAtStore ends the sessions at stores of the user's own. One that never answered
// has none.
func (s *Store) logoutAtStore(ctx context.Context) error {
	s.depotsMu.Lock()
	all := slices.Collect(maps.Values(s.depots))
	s.depotsMu.Unlock()
	var failed []error
	for _, p := range all {
		if p.home() {
			continue
		}
		if err := s.logoutAt(ctx, p); err != nil {
			failed = append(failed, fmt.Errorf("end session at the store: %w", err))
		}
	}
	return errors.Join(failed...)
}

func (s *Store) logoutAt(ctx context.Context, p *depot) error {
	if err := p.turn.acquire(ctx); err != nil {
		return err
	}
	defer p.turn.release()
	if p.access == "" {
		return nil
	}
	err := p.server.Logout(ctx, p.access)
	if problemCode(err) == keyapi.CodeUnauthorized { // the token is old; the session may live
		got, e := s.requestRefresh(ctx, p.server, p.origin, p.refresh)
		if err = e; err == nil {
			err = p.server.Logout(ctx, got.AccessToken)
		}
	}
	p.access, p.refresh = "", nil
	if problemCode(err) == keyapi.CodeUnauthorized {
		return nil
	}
	return err
}

// leave takes the device out of profile and keyring. Its slot stays used.
func (s *Store) leave(ctx context.Context) error {
	id := s.deviceID()
	err := s.Update(ctx, func(t *Tx) error { return t.dropDevice(id) })
	if err != nil {
		return fmt.Errorf("remove device: %w", err)
	}
	return nil
}

func (t *Tx) dropDevice(id []byte) error {
	if _, ok := t.base.profile.device(id); !ok {
		return nil
	}
	p := t.changeProfile()
	d, ok := p.device(id)
	if !ok {
		return nil
	}
	t.changeRing().note(event{At: t.store.cfg.Now().UTC(), Kind: EventDeviceRemoved, Device: d.Name})
	p.Devices = slices.DeleteFunc(p.Devices, func(x device) bool { return string(x.ID) == string(id) })
	p.Used = append(p.Used, d.Slot)
	ring := t.changeRing()
	ring.Recipients = slices.DeleteFunc(ring.Recipients, func(r keys.Recipient) bool {
		return r.Kind == keys.KindDevice && string(r.ID[:]) == string(id)
	})
	return t.wrapRoot()
}

// wipe deletes everything but pins and floors, the vault and with it the
// cache's key first.
func (s *Store) wipe() error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.deferred.writing.Lock() // whoever gets it after this finds the store closed
	defer s.deferred.writing.Unlock()
	s.vaultMu.Lock() // a renewed session must not bring the vault back
	defer s.vaultMu.Unlock()
	s.wiped.Store(true)
	type entry struct{ bucket, key string }
	all := []entry{{bucketVault, keyDevice}}
	buckets := []string{bucketIndex, bucketObjects, bucketSpaces}
	err := s.cfg.Local.ForEach(bucketSpaces, func(k string, _ []byte) error {
		buckets = append(buckets, k)
		return nil
	})
	for _, b := range buckets {
		if err != nil {
			return err
		}
		err = s.cfg.Local.ForEach(b, func(k string, _ []byte) error {
			all = append(all, entry{b, k})
			return nil
		})
	}
	if err != nil {
		return err
	}
	return s.cfg.Local.Update(func(w Writer) error {
		for _, e := range all {
			if err := w.Delete(e.bucket, e.key); err != nil {
				return err
			}
		}
		return nil
	})
}
