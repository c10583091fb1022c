package state

import (
	"context"
	"errors"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// renewLeaked replaces the logins that somebody knows who is no device of the user
// any more: who was dropped while another device sealed directions, or knows a store
// that the state was at, or moves to. It sees through what was begun.
func (s *Store) renewLeaked(ctx context.Context) error {
	if _, err := s.Refresh(ctx); err != nil {
		return err
	}
	var failed []error
	for _, l := range s.directions().Stores {
		failed = append(failed, againstOthers(func() error { return s.renewIfLeaked(ctx, l.ID) }))
	}
	return errors.Join(failed...)
}

// againstOthers repeats what other devices may be about to do as well.
func againstOthers(renew func() error) (err error) {
	for range maxRenewals {
		if err = renew(); !errors.Is(err, errRenewed) {
			return err
		}
	}
	return err
}

func (s *Store) renewIfLeaked(ctx context.Context, id string) error {
	d := s.directions()
	l, ok := d.login(id)
	if !ok || !s.leaked(l) {
		return nil
	}
	p, err := s.depotOf(d, id)
	switch {
	case err != nil:
		return err
	case s.depot.Load() == p:
		return s.renewInUse(ctx, p)
	}
	err = s.tryRenewUnused(ctx, p) // the caller repeats it
	if !l.Registered && errors.Is(err, ErrStoreLogin) {
		return s.forgetLogin(ctx, l) // no device came as far as that store
	}
	return err
}

// renewInUse replaces the login at the store that has the state.
func (s *Store) renewInUse(ctx context.Context, p *depot) error {
	l, err := s.endFormer(ctx, p)
	if err != nil {
		return err
	}
	if !s.knownElsewhere(l) {
		return s.forgetFormer(ctx, p.id, l.Secret)
	}
	r, err := s.beginRenewal(ctx, func(keys.Recipient) bool { return true }, false)
	if err != nil || r.next == nil {
		return err
	}
	err = s.Update(ctx, func(t *Tx) error {
		t.changeRing()
		return r.ride(t)
	})
	if err != nil {
		return err
	}
	return s.forgetFormer(ctx, r.p.id, r.next)
}

// renewUnused replaces the login at a store that does not have the state.
func (s *Store) renewUnused(ctx context.Context, p *depot) error {
	return againstOthers(func() error { return s.tryRenewUnused(ctx, p) })
}

func (s *Store) tryRenewUnused(ctx context.Context, p *depot) error {
	l, due, err := s.named(ctx, p)
	if err != nil {
		return err
	}
	if due {
		if err := s.replacing(p, *l)(ctx, keyapi.Tx{}); err != nil {
			return err
		}
	}
	if !s.knownElsewhere(l) {
		return s.forgetFormer(ctx, p.id, l.Secret)
	}
	next := *l
	next.Former = l.Secret
	if next.Secret, err = keys.NewSecret(); err != nil {
		return err
	}
	err = s.changeDirections(ctx, func(d *directions) error { return d.replaceSecret(p, next.Secret) }, nil)
	if err != nil {
		return err
	}
	crashpoint.Here("store-login-renewed")
	if err := s.replacing(p, next)(ctx, keyapi.Tx{}); err != nil {
		return err
	}
	return s.forgetFormer(ctx, p.id, next.Secret)
}

// forgetLogin takes a login out that was never registered and is of no use.
func (s *Store) forgetLogin(ctx context.Context, was *storeLogin) error {
	return s.changeDirections(ctx, func(d *directions) error {
		l, ok := d.login(was.ID)
		if !ok || l.Registered || string(l.Secret) != string(was.Secret) || d.needs(l.ID) {
			return errNoChange
		}
		d.Stores = slices.DeleteFunc(d.Stores, func(l storeLogin) bool { return l.ID == was.ID })
		return nil
	}, nil)
}
