package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

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
		if _, err := s.endFormer(ctx, r.p); err != nil {
			return nil, err
		}
		if r.next, err = keys.NewSecret(); err != nil {
			return nil, err
		}
	} else if !all || len(d.Stores)+len(d.Root)+len(d.For) == 0 {
		return r, nil
	}
	err = s.changeDirections(ctx, func(d *directions) error {
		if all {
			d.distrust(r.p.id)
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

// distrust is for when any device may have been in somebody's hands: all logins but
// one are known to somebody else, and whom a recovery was for nobody knows. Where
// there is one under way it begins anew, since ROOT is about to be another one.
func (d *directions) distrust(but string) {
	for i := range d.Stores {
		if l := &d.Stores[i]; l.ID != but && !slices.Contains(l.Known, knownToAll) {
			l.Known = append(l.Known, knownToAll)
		}
	}
	d.Root, d.RootVersion, d.For = nil, 0, nil
}

// replaceSecret names the next secret for the login that p has signed in with. Who
// directions were sealed to before does not know it.
func (d *directions) replaceSecret(p *depot, next []byte) error {
	l, ok := d.login(p.id)
	if !ok || !bytes.Equal(l.Secret, p.worked()) {
		return errRenewed
	}
	l.Former, l.Secret, l.Known = l.Secret, next, nil
	l.Registered, l.Invitation = true, "" // or it would not have signed in
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
	l, ok := r.s.directions().login(r.p.id)
	if !ok || !bytes.Equal(l.Secret, r.next) || r.s.depot.Load() != r.p {
		return errRenewed
	}
	t.via = r.s.replacing(r.p, *l)
	return nil
}

// end forgets the former secret, and replaces what dropped devices know of other
// stores. It can wait: Maintain does it too.
func (r *renewal) end(ctx context.Context) {
	if r.next != nil {
		r.p.replaced(r.next)
		if err := r.s.forgetFormer(ctx, r.p.id, r.next); err != nil {
			r.s.warn(ctx, "the former login at the store is named still", err)
		}
	}
	if r.s.directions().Counter > 0 {
		r.s.tidyUp(ctx)
	}
}

// replacing submits a transaction with a change of the login, from the one that the
// directions name as the former to the one that they name.
//
// Another device may have seen this change through meanwhile, and made the next one:
// then nothing is replaced, for nobody would be told.
func (s *Store) replacing(p *depot, l storeLogin) submitFunc {
	return func(ctx context.Context, wire keyapi.Tx) error {
		scope := keys.Scope{Origin: l.Origin, User: l.UserID}
		auth, err := keys.StoreAuth(l.Secret, scope)
		if err != nil {
			return err
		}
		kdf, err := keys.NewKDF() // is asked for; nothing is stretched with it
		if err != nil {
			return err
		}
		// Who knew the login may have set a recovery code's verifier there, to come back.
		nobodys, err := keys.NewSecret()
		if err != nil {
			return err
		}
		err = s.atMovable(ctx, p, func(ctx context.Context, srv StoreServer, token string) error {
			worked := p.worked()
			if !bytes.Equal(worked, l.Former) && !bytes.Equal(worked, l.Secret) {
				return errOvertaken
			}
			old, err := keys.StoreAuth(worked, scope)
			if err != nil {
				return err
			}
			return applied(srv.ChangePassword(ctx, token, keyapi.PasswordRequest{
				OldAuth: old, AuthVersion: keys.AuthVersion, KDF: kdf, Auth: auth, RecoveryAuth: nobodys, Tx: wire,
			}))
		})
		if problemCode(err) == keyapi.CodeForbidden { // it was replaced: sign in with what it is now
			p.forget(ctx)
			return fmt.Errorf("%w: %w", errRenewed, err)
		}
		if err == nil {
			p.replaced(l.Secret)
		}
		return err
	}
}

// errOvertaken is what the store says where the login was replaced a moment later.
var errOvertaken = &keyapi.Problem{Code: keyapi.CodeForbidden, Detail: "the login was replaced meanwhile"}

// named gives a login at a store as the directions have it. due: the store is to be
// told of it still, which another device has begun, or this one.
func (s *Store) named(ctx context.Context, p *depot) (l *storeLogin, due bool, err error) {
	if _, err := s.depotToken(ctx, p, ""); err != nil {
		return nil, false, err
	}
	_, d, err := s.fetchDirections(ctx)
	if err != nil {
		return nil, false, err
	}
	l, ok := d.login(p.id)
	switch worked := p.worked(); {
	case !ok:
		return nil, false, errDirections
	case bytes.Equal(l.Secret, worked):
		return l, false, nil
	case bytes.Equal(l.Former, worked):
		return l, true, nil
	}
	p.forget(ctx) // signed in before it was replaced, more than once
	return nil, false, errRenewed
}

// endFormer sees a replacement through at the store in use: two at once would leave a
// secret that nobody has named.
func (s *Store) endFormer(ctx context.Context, p *depot) (*storeLogin, error) {
	l, due, err := s.named(ctx, p)
	if err != nil || !due {
		return l, err
	}
	return l, s.Update(ctx, func(t *Tx) error {
		if s.depot.Load() != p {
			return errRenewed
		}
		t.changeRing()
		t.via = s.replacing(p, *l)
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
