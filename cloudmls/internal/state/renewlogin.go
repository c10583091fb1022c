package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/internal/crashpoint"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// renewal replaces the login at a store of the user's own in the transaction that
// drops devices, which know the present one.
//
// The next secret is in the directions first, sealed to whoever stays, beside
// the former; then one step at the store drops the devices, replaces the secret
// and ends all sessions but this one; then the former is forgotten. Wherever that
// is cut off, one of the two signs in. Logins at other stores follow afterwards.
type renewal struct {
	s    *Store
	p    *depot
	next []byte // nil: the state is at home, which has nothing to replace
	stay func(keys.Recipient) bool
}

// errRenewed: another device replaced the login meanwhile.
var errRenewed = errors.New("another device changed the login at the store at this moment; try again")

// maxRenewals bounds how often a change that replaces the login is tried against
// other devices that do so.
const maxRenewals = 3

// renewing runs change, which drops devices, with a replacement of what they know of
// stores of the user's own. stay tells for whom the next login is; all: the logins at
// the other stores are replaced too, whoever knows them.
func (s *Store) renewing(ctx context.Context, stay func(keys.Recipient) bool, all bool, change func(*renewal) error) error {
	for try := 1; ; try++ {
		r, err := s.beginRenewal(ctx, stay, all)
		if err == nil {
			err = change(r)
		}
		if err == nil {
			r.end(ctx)
			return nil
		}
		if !errors.Is(err, errRenewed) || try == maxRenewals {
			return err
		}
	}
}

// beginRenewal puts the next secret into the directions.
func (s *Store) beginRenewal(ctx context.Context, stay func(keys.Recipient) bool, all bool) (*renewal, error) {
	if _, err := s.Refresh(ctx); err != nil { // goes over to where the state is
		return nil, err
	}
	r := &renewal{s: s, p: s.depot.Load(), stay: stay}
	_, d, err := s.fetchDirections(ctx)
	switch {
	case r.p.home() && (errors.Is(err, errNotMovable) || errors.Is(err, errNotForUs) || problemCode(err) == keyapi.CodeNoRoute):
		return r, nil // to drop a device depends on no directions where the state is at home
	case err != nil:
		return nil, err
	}
	if !r.p.home() {
		if err := s.endFormer(ctx, r.p); err != nil {
			return nil, err
		}
		if r.next, err = keys.NewSecret(); err != nil {
			return nil, err
		}
	} else if !all || len(d.Stores) == 0 {
		return r, nil
	}
	err = s.changeDirections(ctx, func(d *directions) error {
		for i := range d.Stores {
			if l := &d.Stores[i]; all && l.ID != r.p.id {
				l.Known = append(l.Known, knownToAll)
			}
		}
		if r.next == nil {
			return nil
		}
		return d.replaceSecret(r.p, r.next)
	}, r.staying)
	if err != nil {
		return nil, err
	}
	crashpoint.Here("store-login-named")
	return r, nil
}

// replaceSecret names the next secret for the login that p has signed in with. Who
// directions were sealed to before does not know it.
func (d *directions) replaceSecret(p *depot, next []byte) error {
	l, ok := d.login(p.id)
	if !ok || !bytes.Equal(l.Secret, p.worked()) {
		return errRenewed
	}
	l.Former, l.Secret, l.Known = l.Secret, next, nil
	return nil
}

// forgetFormer is for when the store has taken the next secret.
func (s *Store) forgetFormer(ctx context.Context, id string, secret []byte) error {
	return s.changeDirections(ctx, func(d *directions) error {
		l, ok := d.login(id)
		if !ok || !bytes.Equal(l.Secret, secret) || l.Former == nil {
			return errNoChange
		}
		l.Former = nil
		return nil
	}, nil)
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
	if r.next == nil {
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

// end forgets the former secret, and replaces what dropped devices know of other
// stores. It can wait: Maintain does it too.
func (r *renewal) end(ctx context.Context) {
	if r.next != nil {
		r.p.replaced(r.next)
		if err := r.s.forgetFormer(ctx, r.p.id, r.next); err != nil {
			r.s.cfg.Logger.WarnContext(ctx, "the former login at the store is named still", slog.Any("err", err))
		}
	}
	if r.s.directions().Counter > 0 {
		r.s.tidyUp(ctx)
	}
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
		if problemCode(err) == keyapi.CodeForbidden { // it was replaced: sign in with what it is now
			p.forget(ctx)
			return fmt.Errorf("%w: %w", errRenewed, err)
		}
		if err == nil {
			p.replaced(next)
		}
		return err
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
		p.forget(ctx)
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

// forget makes the next call sign in anew.
func (p *depot) forget(ctx context.Context) {
	if p.turn.acquire(ctx) != nil {
		return // nobody goes on with it either
	}
	defer p.turn.release()
	p.access, p.refresh = "", nil
	p.replaced(nil)
}
