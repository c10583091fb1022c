package keyserver

import (
	"context"
	"crypto/hmac"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// recover opens a session with the recovery code. It is counted with the
// sign-ins of a network, and answers alike whether the name is unknown, the user has no recovery code,
// or it is another one.
func (s *Server) recover(ctx context.Context, in *recoverInput) (*sessionOutput, error) {
	r := &in.Body
	name, user, _, err := s.claimed(ctx, in.Tokens, r.Username, &r.Device, r.RecoveryAuth, r.AuthVersion)
	if err != nil {
		return nil, err
	}
	// Not counted per name: nobody guesses 160 bits, and strangers could keep the
	// user out by trying.
	if !hmac.Equal(s.recoveryVerifier(user.ID, r.RecoveryAuth), user.Recovery) {
		return nil, unauthorized("wrong user name or recovery code")
	}
	g, once, err := s.signingIn(ctx, in.Key, "recover", name, in.RawBody)
	if err != nil {
		return nil, err
	}
	answer, err := s.openSession(ctx, g, once, user, r.Device, true)
	if err != nil {
		return nil, err
	}
	return s.signedIn(in.Tokens, answer)
}

// password replaces what the user signs in with, together with the objects that
// are sealed to it, and ends all other sessions: one transaction of the store.
func (s *Server) password(ctx context.Context, in *repeatable[keyapi.PasswordRequest]) (*output[keyapi.TxResult], error) {
	r, id := &in.Body, caller(ctx)
	if err := s.checkPassword(r, id.recovering); err != nil {
		return nil, err
	}
	once, err := s.once(ctx, in.Key, "password", id.user[:], in.RawBody)
	if err != nil {
		return nil, err
	}
	if wait, ok := s.limits.writes.take(id.user.String(), s.Now()); !ok {
		return nil, rateLimited(wait)
	}
	guesser := "password of " + id.user.String() // whoever has a session only must not guess through it
	if !id.recovering {
		if wait, ok := s.guesses.begin(guesser, s.Now()); !ok {
			return nil, rateLimited(wait)
		}
	}
	var proven bool
	var ended []SessionID
	err = s.Store.Update(ctx, func(w Writer) (err error) {
		var done keyapi.TxResult
		if proven, err = once.replay(w, &done); err != nil || proven {
			return err
		}
		var u *User
		if u, proven, err = s.mayChange(w, id, r.OldAuth); err != nil {
			return err
		}
		s.setSecrets(u, r.AuthVersion, r.KDF, r.KDFTag, r.Auth)
		if len(r.RecoveryAuth) > 0 {
			u.Recovery = s.recoveryVerifier(u.ID, r.RecoveryAuth)
		}
		if s.has(RoleStore) {
			if err := s.changeSealed(w, u.ID, &r.Tx); err != nil {
				return err
			}
		}
		if err := w.PutUser(u); err != nil {
			return err
		}
		if ended, err = keepOnly(w, id); err != nil {
			return err
		}
		return once.keep(w, keyapi.TxResult{Applied: true})
	})
	if proven {
		s.guesses.succeed(guesser)
	}
	if err != nil {
		return nil, err
	}
	for _, e := range ended {
		s.waiting.wakeSession(e)
	}
	return &output[keyapi.TxResult]{keyapi.TxResult{Applied: true}}, nil
}

func (s *Server) checkPassword(r *keyapi.PasswordRequest, recovering bool) error {
	if err := checkSecrets(r.AuthVersion, r.KDF, r.KDFTag, r.Auth, r.RecoveryAuth); err != nil {
		return err
	}
	switch {
	case recovering && len(r.RecoveryAuth) == 0:
		return invalid("a recovery code serves once: recovery_auth must bring another")
	case recovering != (len(r.OldAuth) == 0) || !recovering && len(r.OldAuth) != authSize:
		return invalid("old_auth must have 32 octets, and none in a session opened with the recovery code")
	case !s.has(RoleStore) && len(r.Tx.Expect)+len(r.Tx.Put)+len(r.Tx.Delete) > 0:
		return invalid("this server keeps no objects: tx must be empty, and what is sealed to the password is changed at the store before")
	case r.Tx.Commit != nil || len(r.Tx.Ack) > 0:
		return errSealed()
	}
	return checkTx(&r.Tx)
}

func errSealed() error {
	return invalid("tx must put the objects that are sealed to the password, and nothing but objects")
}

// changeSealed puts the objects that are sealed to the password. Where this store
// is not in use there are none: another one has them, or a move has brought them
// here and not seen it through; then they are changed there before, as where this
// server does not have the role store.
func (s *Server) changeSealed(w Writer, u UserID, t *keyapi.Tx) error {
	if len(t.Put) > 0 {
		return s.changeObjects(w, u, t)
	}
	if len(t.Expect)+len(t.Delete) > 0 {
		return errSealed()
	}
	p, err := s.placeOf(w, u)
	if err != nil || p.Place == keyapi.PlaceGone || p.Place == keyapi.PlaceArriving {
		return err
	}
	use, err := w.Usage(u)
	if err == nil && (p.Place != keyapi.PlaceHere || p.Move == 0 && use.Objects > 0) {
		err = errSealed()
	}
	return err
}

// mayChange gives the user, if the caller may replace their secrets. proven
// tells that the old password was right.
func (s *Server) mayChange(r Reader, id identity, oldAuth []byte) (u *User, proven bool, err error) {
	session, err := r.Session(id.session)
	if err != nil {
		return nil, false, err
	}
	if u, err = r.User(id.user); err != nil {
		return nil, false, err
	}
	if session == nil || u == nil || session.Recovering != id.recovering {
		return nil, false, unauthorized("session has ended")
	}
	if id.recovering {
		return u, false, nil
	}
	if !hmac.Equal(s.verifier(u.ID, oldAuth), u.Verifier) {
		return nil, false, forbidden("the password is not the user's")
	}
	return u, true, nil
}

// keepOnly ends all sessions of the user but the caller's, which may do
// everything from now on.
func keepOnly(w Writer, id identity) (ended []SessionID, err error) {
	all, err := w.Sessions(id.user)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if x := &all[i]; x.ID != id.session {
			ended = append(ended, x.ID)
			err = w.DeleteSession(x.ID)
		} else if x.Recovering {
			x.Recovering = false
			err = w.PutSession(x)
		}
		if err != nil {
			return nil, err
		}
	}
	return ended, nil
}
