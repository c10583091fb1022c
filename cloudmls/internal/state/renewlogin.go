package state

import (
	"bytes"
	"context"
	"errors"
	"log/slog"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// renewal replaces the login at a store of the user's own in the transaction that
// drops devices, which know the present one. What is nil has nothing to replace.
//
// The next secret is in the directions first, sealed to whoever stays, beside
// the former; then one step at the store drops the devices, replaces the secret
// and ends all sessions but this one; then the former is forgotten. Wherever that
// is cut off, one of the two signs in.
type renewal struct {
	s    *Store
	p    *depot
	next []byte
	stay func(keys.Recipient) bool
}

// errRenewed: another device replaced the login meanwhile.
var errRenewed = errors.New("another device changed the login at the store at this moment; try again")

// beginRenewal puts the next secret into the directions.
func (s *Store) beginRenewal(ctx context.Context, stay func(keys.Recipient) bool) (*renewal, error) {
	if _, err := s.Refresh(ctx); err != nil { // goes over to where the state is
		return nil, err
	}
	p := s.depot.Load()
	if p.home() {
		return nil, nil
	}
	if err := s.endFormer(ctx, p); err != nil {
		return nil, err
	}
	next, err := keys.NewSecret()
	if err != nil {
		return nil, err
	}
	r := &renewal{s, p, next, stay}
	err = s.changeDirections(ctx, func(d *directions) error {
		l, ok := d.login(p.id)
		if !ok || d.At != p.id || !bytes.Equal(l.Secret, p.worked()) {
			return errRenewed
		}
		l.Former, l.Secret = l.Secret, next
		return nil
	}, r.staying)
	if err != nil {
		return nil, err
	}
	crashpoint.Here("store-login-named")
	return r, nil
}

// staying leaves out whom the directions are not for any more.
func (r *renewal) staying(list []keys.Recipient) []keys.Recipient {
	var kept []keys.Recipient
	for _, x := range list {
		if r.stay(x) {
			kept = append(kept, x)
		}
	}
	return kept
}

// ride makes the transaction replace the login as well.
func (r *renewal) ride(t *Tx) error {
	if r == nil {
		return nil
	}
	if r.s.depot.Load() != r.p {
		return errRenewed
	}
	l, ok := r.s.directions().login(r.p.id)
	if !ok {
		return errDirections
	}
	t.via = r.s.replacing(r.p, *l, r.next)
	return nil
}

// replacing submits a transaction with a change of the login.
func (s *Store) replacing(p *depot, l storeLogin, next []byte) submitFunc {
	return func(ctx context.Context, wire keyapi.Tx) error {
		scope := keys.Scope{Origin: l.Origin, User: l.UserID}
		auth, err := keys.StoreAuth(next, scope)
		if err != nil {
			return err
		}
		kdf, err := keys.NewKDF() // is asked for; nothing is stretched with it
		if err != nil {
			return err
		}
		err = s.atMovable(ctx, p, func(ctx context.Context, srv StoreServer, token string) error {
			old, err := keys.StoreAuth(p.worked(), scope)
			if err != nil {
				return err
			}
			return applied(srv.ChangePassword(ctx, token, keyapi.PasswordRequest{
				OldAuth: old, AuthVersion: keys.AuthVersion, KDF: kdf, Auth: auth, Tx: wire,
			}))
		})
		if err == nil {
			p.replaced(next)
		}
		return err
	}
}

// end forgets the former secret. It can wait.
func (r *renewal) end(ctx context.Context) {
	if r == nil {
		return
	}
	r.p.replaced(r.next)
	err := r.s.changeDirections(ctx, func(d *directions) error {
		if l, ok := d.login(r.p.id); ok && bytes.Equal(l.Secret, r.next) {
			l.Former = nil
		}
		return nil
	}, r.staying)
	if err != nil {
		r.s.cfg.Logger.WarnContext(ctx, "the former login at the store is named still", slog.Any("err", err))
	}
}

// endFormer sees a replacement through that another device, or this one, has
// begun: two at once would leave a secret that nobody has named.
func (s *Store) endFormer(ctx context.Context, p *depot) error {
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
	if bytes.Equal(l.Secret, p.worked()) {
		return nil
	}
	if !bytes.Equal(l.Former, p.worked()) { // signed in before it was replaced, more than once
		return errRenewed
	}
	return s.Update(ctx, func(t *Tx) error {
		t.changeRing()
		t.via = s.replacing(p, *l, l.Secret)
		return nil
	})
}

// worked is the secret that this device has signed in with.
func (p *depot) worked() []byte {
	p.secretMu.Lock()
	defer p.secretMu.Unlock()
	return p.secret
}

func (p *depot) replaced(secret []byte) {
	p.secretMu.Lock()
	defer p.secretMu.Unlock()
	p.secret = bytes.Clone(secret)
}
