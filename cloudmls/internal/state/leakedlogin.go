package state

import (
	"bytes"
	"context"
	"errors"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// renewLeaked replaces the logins that somebody knows who is no device of the user
// any more: who was dropped while another device sealed directions, or knows a store
// that the state was at, or moves to.
func (s *Store) renewLeaked(ctx context.Context) error {
	if _, err := s.Refresh(ctx); err != nil {
		return err
	}
	d := s.directions()
	var failed []error
	for i := range d.Stores {
		l := &d.Stores[i]
		if !l.Registered || !s.leaked(l) {
			continue
		}
		p, err := s.depotOf(d, l.ID)
		switch {
		case err != nil:
		case s.depot.Load() == p:
			err = s.renewInUse(ctx)
		default:
			err = s.renewUnused(ctx, p)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// renewInUse replaces the login at the store that has the state.
func (s *Store) renewInUse(ctx context.Context) error {
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
	if _, err := s.depotToken(ctx, p, ""); err != nil {
		return err
	}
	_, d, err := s.fetchDirections(ctx)
	if err != nil {
		return err
	}
	l, ok := d.login(p.id)
	if !ok {
		return errDirections
	}
	if !bytes.Equal(l.Secret, p.worked()) { // one that was cut off
		if !bytes.Equal(l.Former, p.worked()) {
			p.forget(ctx)
			return errRenewed
		}
		if err := s.replacing(p, *l, l.Secret)(ctx, keyapi.Tx{}); err != nil {
			return err
		}
	}
	if !s.leaked(l) {
		return s.forgetFormer(ctx, p.id, l.Secret)
	}
	next, err := keys.NewSecret()
	if err != nil {
		return err
	}
	err = s.changeDirections(ctx, func(d *directions) error { return d.replaceSecret(p, next) }, nil)
	if err != nil {
		return err
	}
	crashpoint.Here("store-login-renewed")
	if err := s.replacing(p, *l, next)(ctx, keyapi.Tx{}); err != nil {
		return err
	}
	return s.forgetFormer(ctx, p.id, next)
}
