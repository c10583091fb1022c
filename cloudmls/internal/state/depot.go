package state

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cloudmls/gateway/cloudmls/internal/keys"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// StoreServer is a server with the role store, as it is asked where the user's
// state is moved. One of the user's own has the role auth as well. What is said
// of Server holds here too.
type StoreServer interface {
	Server(ctx context.Context) (keyapi.ServerInfo, error)
	Register(ctx context.Context, r keyapi.RegisterRequest) (keyapi.Session, error)
	Login(ctx context.Context, r keyapi.LoginRequest) (keyapi.Session, error)
	Refresh(ctx context.Context, r keyapi.RefreshRequest) (keyapi.Session, error)
	Logout(ctx context.Context, token string) error
	ChangePassword(ctx context.Context, token string, r keyapi.PasswordRequest) (keyapi.TxResult, error)
	ObjectIndex(ctx context.Context, token string) (keyapi.ObjectIndex, error)
	Objects(ctx context.Context, token string, ids []keyapi.ObjectID) (keyapi.ObjectList, error)
	Tx(ctx context.Context, token string, tx keyapi.Tx) (keyapi.TxResult, error)
	StorePlace(ctx context.Context, token string) (keyapi.StorePlace, error)
	MoveStore(ctx context.Context, token string, m keyapi.StoreMove) (keyapi.StorePlace, error)
	ImportObjects(ctx context.Context, token string, o keyapi.StoreImport) (keyapi.StorePlace, error)
	SetDirections(ctx context.Context, token string, d keyapi.Directions) (keyapi.StorePlace, error)
}

// ErrStoreLogin means that a store of the user's own refuses the login that the
// user's devices have for it.
var ErrStoreLogin = errors.New("the store that has the state does not accept this user's devices")

var (
	errNoDial = errors.New("the state is at a store of the user's own, and the program says no way to reach one (DialStore)")
	// errNotMovable: the key server's client knows nothing of moves.
	errNotMovable = errors.New("this key server's client cannot say where the state is")
)

// objectServer is what Server and StoreServer have in common.
type objectServer interface {
	ObjectIndex(ctx context.Context, token string) (keyapi.ObjectIndex, error)
	Objects(ctx context.Context, token string, ids []keyapi.ObjectID) (keyapi.ObjectList, error)
	Tx(ctx context.Context, token string, tx keyapi.Tx) (keyapi.TxResult, error)
}

// depot is a store that may have the user's objects: home, which takes the
// tokens of Config.Server, or one of the user's own, with a session of its own.
// That session is never written down: the devices can always sign in there.
type depot struct {
	id, origin string

	turn    lock // held through the calls that sign in
	server  StoreServer
	access  string
	refresh []byte
	refused []byte // secret that does not sign in, as of the last time

	secretMu sync.Mutex
	secret   []byte // that this device has signed in with
}

func (p *depot) home() bool { return p.id == atHome }

// depotOf gives a store that the directions name, the same for the same id.
func (s *Store) depotOf(d *directions, id string) (*depot, error) {
	origin := s.cfg.Origin
	if id != atHome {
		l, ok := d.login(id)
		if !ok {
			return nil, errDirections
		}
		origin = l.Origin
	}
	s.depotsMu.Lock()
	defer s.depotsMu.Unlock()
	p := s.depots[id]
	if p != nil && p.origin != origin { // ids are random: whoever wrote this means no good
		return nil, errDirections
	}
	if p == nil {
		p = &depot{id: id, origin: origin, turn: newLock()}
		s.depots[id] = p
	}
	return p, nil
}

// at runs call with a store and a token for it; again, once, where that refuses
// the token. So call must be one request.
func (s *Store) at(ctx context.Context, p *depot, call func(ctx context.Context, srv objectServer, token string) error) error {
	if p.home() {
		return s.Authorized(ctx, func(ctx context.Context, token string) error { return call(ctx, s.cfg.Server, token) })
	}
	if s.closed.Load() {
		return ErrClosed
	}
	token, err := s.depotToken(ctx, p, "")
	if err != nil {
		return err
	}
	err = call(ctx, p.server, token)
	if problemCode(err) != keyapi.CodeUnauthorized {
		return err
	}
	if token, err = s.depotToken(ctx, p, token); err != nil {
		return err
	}
	return call(ctx, p.server, token)
}

// atMovable is at for what concerns moves.
func (s *Store) atMovable(ctx context.Context, p *depot, call func(ctx context.Context, srv StoreServer, token string) error) error {
	return s.at(ctx, p, func(ctx context.Context, srv objectServer, token string) error {
		m, ok := srv.(StoreServer)
		if !ok {
			return errNotMovable
		}
		return call(ctx, m, token)
	})
}

// dial gives the server of a store of the user's own. The caller has p.turn.
func (s *Store) dial(ctx context.Context, p *depot) error {
	if p.server != nil {
		return nil
	}
	if s.cfg.DialStore == nil {
		return errNoDial
	}
	srv, err := s.cfg.DialStore(ctx, p.origin)
	if err != nil {
		return fmt.Errorf("reach store: %w", err)
	}
	p.server = srv
	return nil
}

// depotToken gives an access token other than refused.
func (s *Store) depotToken(ctx context.Context, p *depot, refused string) (string, error) {
	if err := p.turn.acquire(ctx); err != nil {
		return "", err
	}
	defer p.turn.release()
	if p.access != "" && p.access != refused {
		return p.access, nil
	}
	if err := s.dial(ctx, p); err != nil {
		return "", err
	}
	if len(p.refresh) > 0 {
		got, err := s.requestRefresh(ctx, p.server, p.origin, p.refresh)
		switch {
		case err == nil && got.AccessToken != "" && len(got.RefreshToken) > 0:
			p.access, p.refresh = got.AccessToken, slices.Clone(got.RefreshToken)
			return p.access, nil
		case problemCode(err) != keyapi.CodeUnauthorized:
			return "", fmt.Errorf("refresh session at the store: %w", errors.Join(err, errUnless(err)))
		}
		p.access, p.refresh = "", nil
	}
	// A login that was refused is not tried again before home was asked for another
	// one: as long as that does not answer it would count as guessing, and keep all
	// devices out.
	known, ok := s.directions().login(p.id)
	tried := !ok || !bytes.Equal(known.Secret, p.refused)
	if tried {
		if err := s.signInAt(ctx, p, s.directions()); !errors.Is(err, ErrStoreLogin) {
			return p.access, err
		}
	}
	// Another device may have made another login.
	_, d, e := s.fetchDirections(ctx)
	if e != nil {
		// Not ErrStoreLogin: that says that all is known, and the store refuses.
		return "", fmt.Errorf("the store refuses the login that this device knows, and whether there is another one: %w", e)
	}
	if l, ok := d.login(p.id); ok && tried && bytes.Equal(l.Secret, p.refused) {
		return "", ErrStoreLogin // it is what was shown a moment ago
	}
	return p.access, s.signInAt(ctx, p, d)
}

// errUnless names an answer that is no session.
func errUnless(err error) error {
	if err == nil {
		return errSession
	}
	return nil
}

// signInAt opens a session at a store of the user's own. The caller has p.turn.
func (s *Store) signInAt(ctx context.Context, p *depot, d *directions) error {
	l, ok := d.login(p.id)
	if !ok {
		return errDirections
	}
	for _, secret := range [][]byte{l.Secret, l.Former} {
		if len(secret) == 0 {
			continue
		}
		auth, err := keys.StoreAuth(secret, keys.Scope{Origin: l.Origin, User: l.UserID})
		if err != nil {
			return err
		}
		got, err := p.server.Login(ctx, keyapi.LoginRequest{
			Username: l.Username, AuthVersion: keys.AuthVersion, Auth: auth, Device: s.device(),
		})
		clear(auth)
		if problemCode(err) == keyapi.CodeUnauthorized {
			continue
		}
		if err != nil {
			return fmt.Errorf("sign in at the store: %w", err)
		}
		return p.take(got, l, secret)
	}
	p.refused = bytes.Clone(l.Secret)
	return ErrStoreLogin
}

// take keeps a session in memory. The caller has p.turn.
func (p *depot) take(got keyapi.Session, l *storeLogin, secret []byte) error {
	if string(got.UserID) != string(l.UserID) || got.AccessToken == "" || len(got.RefreshToken) == 0 {
		return errSession
	}
	p.access, p.refresh, p.refused = got.AccessToken, slices.Clone(got.RefreshToken), nil
	p.replaced(secret)
	return nil
}

// registerAt makes the user at a store of the user's own, or finds that an
// earlier attempt did.
func (s *Store) registerAt(ctx context.Context, p *depot, l *storeLogin) error {
	if err := p.turn.acquire(ctx); err != nil {
		return err
	}
	defer p.turn.release()
	if err := s.dial(ctx, p); err != nil {
		return err
	}
	auth, err := keys.StoreAuth(l.Secret, keys.Scope{Origin: l.Origin, User: l.UserID})
	if err != nil {
		return err
	}
	defer clear(auth)
	kdf, err := keys.NewKDF() // is asked for; nothing is stretched with it
	if err != nil {
		return err
	}
	got, err := p.server.Register(ctx, keyapi.RegisterRequest{
		Username: l.Username, AuthVersion: keys.AuthVersion, UserID: l.UserID, KDF: kdf, Auth: auth,
		Device: s.device(), Invitation: l.Invitation,
	})
	switch problemCode(err) {
	case keyapi.CodeTaken, keyapi.CodeForbidden: // by us, or an invitation that served us already
		if e := s.signInAt(ctx, p, &directions{Stores: []storeLogin{*l}}); !errors.Is(e, ErrStoreLogin) {
			return e
		}
	}
	if err != nil {
		return fmt.Errorf("register at the store: %w", err)
	}
	return p.take(got, l, l.Secret)
}

// Ed25519 key by which this device is known to all servers of the user.
func (s *Store) signingKey() ed25519.PrivateKey {
	s.vaultMu.Lock()
	defer s.vaultMu.Unlock()
	return ed25519.NewKeyFromSeed(s.vault.SignSeed)
}
