package state

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// session holds this device's tokens. Its turn is held while a refresh is under
// way, so that many callers with an expired token cause one refresh. Whether a
// token has ended the server decides alone: the clocks need not agree.
type session struct {
	turn    lock
	told    atomic.Bool // Config.SignedOut was called
	ended   atomic.Bool // the server has refused to renew it
	access  string
	refresh []byte

	notices atomic.Pointer[[]keyapi.SessionNotice] // those of the last answer
}

// mostNotices are taken of an answer: a server may say anything.
const mostNotices = 64

// take keeps what an answer brings. The caller has the turn.
func (n *session) take(got keyapi.Session) {
	n.access, n.refresh = got.AccessToken, slices.Clone(got.RefreshToken)
	notices := got.Notices[max(0, len(got.Notices)-mostNotices):]
	n.notices.Store(&notices)
}

// renew makes the next call ask for another access token.
func (n *session) renew() {
	n.turn <- struct{}{}
	defer n.turn.release()
	n.access = ""
}

func problemCode(err error) string {
	var p *keyapi.Problem
	if errors.As(err, &p) {
		return p.Code
	}
	return ""
}

func (s *Store) authorized(ctx context.Context, call func(ctx context.Context, token string) error) error {
	if s.closed.Load() {
		return ErrClosed
	}
	token, err := s.token(ctx, "")
	if err != nil {
		return err
	}
	err = call(ctx, token)
	if problemCode(err) != keyapi.CodeUnauthorized {
		return err
	}
	if token, err = s.token(ctx, token); err != nil {
		return err
	}
	return call(ctx, token)
}

// SignedIn tells whether this device has a session, as far as is known without
// asking.
func (s *Store) SignedIn() bool { return !s.closed.Load() && !s.session.ended.Load() }

// Authorized runs call with a valid access token. Where the server refuses the
// token, it is refreshed and call runs again, once; so call must be one request.
// Where the session turns out to have ended, Config.SignedOut is told once.
func (s *Store) Authorized(ctx context.Context, call func(ctx context.Context, token string) error) error {
	before := s.session.ended.Load()
	err := s.authorized(ctx, call)
	if !before && s.session.ended.Load() && s.session.told.CompareAndSwap(false, true) && s.cfg.SignedOut != nil {
		s.cfg.SignedOut()
	}
	return err
}

// token gives an access token other than refused.
func (s *Store) token(ctx context.Context, refused string) (string, error) {
	n := &s.session
	if err := n.turn.acquire(ctx); err != nil {
		return "", err
	}
	defer n.turn.release()
	if n.access != "" && n.access != refused {
		return n.access, nil
	}
	if len(n.refresh) == 0 {
		n.ended.Store(true)
		return "", ErrSignedOut
	}
	got, err := s.requestRefresh(ctx, s.cfg.Server, s.cfg.Origin, n.refresh)
	if problemCode(err) == keyapi.CodeUnauthorized {
		n.access, n.refresh = "", nil
		n.ended.Store(true)
		return "", ErrSignedOut
	}
	if err != nil {
		return "", fmt.Errorf("refresh session: %w", err)
	}
	if err := s.takeSession(got); err != nil {
		return "", err
	}
	return n.access, nil
}

// refresher is a server that this device has a session at.
type refresher interface {
	Refresh(ctx context.Context, r keyapi.RefreshRequest) (keyapi.Session, error)
}

func (s *Store) requestRefresh(ctx context.Context, srv refresher, origin string, token []byte) (keyapi.Session, error) {
	key := s.signingKey()
	got, err := refreshAt(ctx, srv, origin, key, token, s.cfg.Now())
	var p *keyapi.Problem
	if errors.As(err, &p) && p.Code == keyapi.CodeClock && p.Now != nil {
		// A wrong clock locks nobody out. The time bounds for how long the request
		// is of use to one who keeps it unsent; who has it could send it at once.
		s.cfg.Logger.WarnContext(ctx, "this device's clock differs from the key server's", "by", s.cfg.Now().Sub(*p.Now))
		got, err = refreshAt(ctx, srv, origin, key, token, *p.Now)
	}
	return got, err
}

// refreshAt asks for new tokens with a time.
func refreshAt(ctx context.Context, srv refresher, origin string, key ed25519.PrivateKey, token []byte, at time.Time) (keyapi.Session, error) {
	r := keyapi.RefreshRequest{RefreshToken: token, Time: at.UTC()}
	r.Signature = ed25519.Sign(key, keyapi.RefreshSigningInput(origin, r))
	got, err := srv.Refresh(ctx, r)
	if err != nil && problemCode(err) == "" && ctx.Err() == nil {
		// The answer may be lost after the server rotated the token. The same
		// request gives the same successor for a short while.
		got, err = srv.Refresh(ctx, r)
	}
	return got, err
}

// takeSession makes the new refresh token durable before anything uses the
// session. The caller has session.turn.
func (s *Store) takeSession(got keyapi.Session) error {
	if string(got.UserID) != string(s.scope.User) || got.AccessToken == "" || len(got.RefreshToken) == 0 {
		return errSession
	}
	if err := s.changeVault(func(v *vault) { v.Refresh = slices.Clone(got.RefreshToken) }); err != nil {
		return err
	}
	s.session.take(got)
	return nil
}
