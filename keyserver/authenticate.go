package keyserver

import (
	"context"
	"errors"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// authenticate lets requests with a valid token of an existing session pass;
// whether one that was opened with the recovery code does too, recovering says.
func (s *Server) authenticate(recovering bool) func(huma.Context, func(huma.Context)) {
	return func(c huma.Context, next func(huma.Context)) {
		id, err := s.identify(c)
		if err == nil {
			id, err = s.confirm(c.Context(), id, recovering)
		}
		s.pass(c, next, id, err)
	}
}

// recognise lets requests with a valid token pass. Whether its session still
// exists is looked up by the handler, with present, in the transaction that does
// the work: a look of its own would double the cost of small requests. Nothing is
// done or told before, and no more is read than of somebody without a token.
func (s *Server) recognise(c huma.Context, next func(huma.Context)) {
	p := parkingOf(c.Context())
	if p != nil && p.known { // it looks again
		s.pass(c, next, p.who, nil)
		return
	}
	id, err := s.identify(c)
	r, _ := humachi.Unwrap(c)
	if err == nil && (s.remote != nil || r.ContentLength < 0 || r.ContentLength > openBody) {
		id, err = s.confirm(c.Context(), id, false)
	}
	if p != nil && err == nil {
		p.known, p.who = true, id
		if s.remote == nil {
			p.who.token = "" // which is asked with elsewhere only
		}
	}
	s.pass(c, next, id, err)
}

func (s *Server) pass(c huma.Context, next func(huma.Context), id identity, err error) {
	if err == nil {
		next(huma.WithValue(c, identityKey{}, id))
		return
	}
	var p *problem
	if !errors.As(err, &p) {
		p = s.asProblem("authenticate", err).(*problem)
	}
	_, w := humachi.Unwrap(c)
	writeProblem(w, p)
}

// identify checks the token of a request.
func (s *Server) identify(c huma.Context) (identity, error) {
	token := s.cookieToken(c)
	if token == "" {
		scheme, bearer, ok := strings.Cut(c.Header("Authorization"), " ")
		if !ok || !strings.EqualFold(scheme, "Bearer") {
			return identity{}, unauthorized("no access token")
		}
		token = bearer
	}
	id, err := s.tokens.check(c.Context(), token)
	switch {
	case errors.Is(err, errKeysUnknown):
		s.log.Warn("access token cannot be checked", "error", err)
		return identity{}, unavailable("access tokens cannot be checked at the moment")
	case err != nil:
		return identity{}, unauthorized("access token is not valid")
	}
	return id, nil
}

// cookieToken is the access token of a web page.
func (s *Server) cookieToken(c huma.Context) string {
	if !s.Browsers || c.Header("Authorization") != "" {
		return ""
	}
	cookie, err := huma.ReadCookie(c, accessCookie)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// confirm looks for the session of a valid token, here or where the sessions are.
func (s *Server) confirm(ctx context.Context, id identity, recovering bool) (identity, error) {
	var err error
	if s.remote != nil {
		id.recovering, err = s.remoteSession(ctx, id)
	} else {
		err = s.Store.View(ctx, func(r Reader) (err error) {
			id.recovering, err = s.localSession(r, id)
			return err
		})
	}
	if err == nil && id.recovering && !recovering {
		err = errRecovering()
	}
	id.confirmed = err == nil
	return id, err
}

func errRecovering() error {
	return forbidden("signed in with the recovery code: set a new password first")
}

// present is confirm within a transaction, for routes behind recognise. Sessions
// that are elsewhere were looked for by it.
func (s *Server) present(r Reader, id identity) error {
	recovering, err := s.localSession(r, id)
	if err == nil && recovering {
		err = errRecovering()
	}
	return err
}

// update is Store.Update for routes behind authenticate: the session is looked
// for once more, in the transaction, for it may have ended, and its user with it,
// while the body came. accounts are what fn is about.
func (s *Server) update(ctx context.Context, fn func(Writer) error, accounts ...keyapi.Account) error {
	id := caller(ctx)
	if _, err := s.remoteSession(ctx, id); err != nil {
		return err
	}
	return s.Store.Update(ctx, func(w Writer) error {
		if err := w.Foresee(&Plan{User: id.user, Session: id.session, Accounts: accounts}); err != nil {
			return err
		}
		if _, err := s.localSession(w, id); err != nil {
			return err
		}
		return fn(w)
	})
}

// localSession tells whether a session that exists was opened with the recovery
// code; nothing where the sessions are elsewhere.
func (s *Server) localSession(r Reader, id identity) (recovering bool, err error) {
	if s.remote != nil {
		return false, nil
	}
	session, err := r.Session(id.session)
	if err != nil {
		return false, err
	}
	if session == nil || session.User != id.user {
		return false, unauthorized("session has ended")
	}
	return session.Recovering, nil
}

// remoteSession is localSession for sessions that are elsewhere.
func (s *Server) remoteSession(ctx context.Context, id identity) (recovering bool, err error) {
	if s.remote == nil {
		return false, nil
	}
	state, err := s.remote.session(ctx, id)
	if err != nil {
		s.log.Warn("session cannot be checked", "error", err)
		return false, unavailable("sessions cannot be checked at the moment")
	}
	if state == nil {
		return false, unauthorized("session has ended")
	}
	return state.Recovering, nil
}

type identityKey struct{}

// caller is who makes the request; routes behind authenticate only.
func caller(ctx context.Context) identity {
	id := bearer(ctx)
	if !id.confirmed {
		panic("keyserver: route that was to look for the session asks who calls")
	}
	return id
}

// bearer is who the valid token of a request names. Behind recognise the session
// may have ended.
func bearer(ctx context.Context) identity {
	id, ok := ctx.Value(identityKey{}).(identity)
	if !ok {
		panic("keyserver: route without authentication asks who calls")
	}
	return id
}
