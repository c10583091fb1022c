package keyserver

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Refresh tokens (RFC 9700 section 4.14): 32 random octets, stored as hash,
// exchanged at each use, bound to the device key.
const (
	refreshSize = 32
	// reuseWindow is how long a used token still gives its successor: the
	// answer may have been lost.
	reuseWindow = 30 * time.Second
	// refreshSkew is how far the time of a request may be off. A device whose
	// clock is further off is told the server's.
	refreshSkew = time.Hour
)

func newSession(u UserID, d keyapi.Device, now time.Time) (*Session, []byte) {
	s := &Session{User: u, Device: d, Created: now, Used: now}
	rand.Read(s.ID[:])
	token := newRefreshToken()
	s.Token = sha256.Sum256(token)
	return s, token
}

func newRefreshToken() []byte {
	b := make([]byte, refreshSize)
	rand.Read(b)
	return b
}

// rotate gives the session a new token and keeps it sealed under the old one,
// which the store does not have.
func (s *Session) rotate(old []byte, now time.Time) ([]byte, error) {
	token := newRefreshToken()
	a, nonce, err := successorCipher(old)
	if err != nil {
		return nil, err
	}
	s.Previous, s.Token = s.Token, sha256.Sum256(token)
	s.Successor = a.Seal(nil, nonce, token, s.ID[:])
	s.Generation++
	s.Used = now
	return token, nil
}

// successor opens what rotate sealed.
func (s *Session) successor(old []byte) ([]byte, error) {
	a, nonce, err := successorCipher(old)
	if err != nil {
		return nil, err
	}
	token, err := a.Open(nil, nonce, s.Successor, s.ID[:])
	if err != nil {
		return nil, fmt.Errorf("open successor of refresh token: %w", err)
	}
	return token, nil
}

// successorCipher has a key of its own for each token, which seals once.
func successorCipher(token []byte) (cipher.AEAD, []byte, error) {
	key, err := hkdf.Key(sha256.New, token, nil, "cloudmls/1 refresh successor", 32)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, nil, err
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, err
	}
	return a, make([]byte, a.NonceSize()), nil
}

func (s *Server) sessionAnswer(g *signer, session *Session, refresh []byte) (keyapi.Session, error) {
	access, expires, err := g.issue(identity{user: session.User, session: session.ID}, s.Now())
	return keyapi.Session{
		UserID: session.User[:], SessionID: session.ID[:], AccessToken: access, ExpiresAt: expires, RefreshToken: refresh,
	}, err
}

// refresh exchanges a refresh token. A used one, presented in time by its
// device, gives its successor again; in any other case it is a copy in foreign
// hands, or its successor is, and the session ends; the user's devices are told.
func (s *Server) refresh(ctx context.Context, in *refreshInput) (*sessionOutput, error) {
	now := s.Now()
	if wait, ok := s.limits.refresh.take(network(ctx), now); !ok {
		return nil, rateLimited(wait)
	}
	r, signed, err := s.refreshRequest(in)
	if err != nil {
		return nil, err
	}
	if len(r.RefreshToken) != refreshSize {
		return nil, invalid("refresh_token must have 32 octets")
	}
	if d := now.Sub(r.Time); d > refreshSkew || d < -refreshSkew {
		return nil, wrongClock(now)
	}
	hash := Hash(sha256.Sum256(r.RefreshToken))
	var session *Session
	var token []byte
	var notices []keyapi.SessionNotice
	var refused error
	var stolen bool
	err = s.Store.Update(ctx, func(w Writer) (err error) {
		token, notices, stolen, refused = nil, nil, false, unauthorized("refresh token is not valid")
		session, err = w.SessionByToken(hash)
		if err != nil || session == nil {
			return orErr(err, refused) // nothing to write: strangers must not make the disk work
		}
		signed := ed25519.Verify(session.Device.Key, signed, r.Signature)
		switch {
		case session.Token == hash && !signed:
			return refused // without the device key a stolen token can neither be used nor spoilt
		case session.Recovering:
			return refused // it lasts as long as its access token
		case now.Sub(session.Used) > s.Limits.RefreshLifetime:
			return w.DeleteSession(session.ID)
		case session.Token == hash:
			if token, err = session.rotate(r.RefreshToken, now); err != nil {
				return err
			}
			if err := w.PutSession(session); err != nil {
				return err
			}
			refused = nil
			notices, err = noticesOf(w, session.User, now)
			return err
		case session.Previous == hash && signed && now.Sub(session.Used) <= reuseWindow:
			if token, err = session.successor(r.RefreshToken); err != nil {
				return err
			}
			refused = nil
			notices, err = noticesOf(w, session.User, now)
			return err
		}
		stolen = true
		if err := w.DeleteSession(session.ID); err != nil {
			return err
		}
		return noteReuse(w, session, now)
	})
	if stolen && err == nil {
		s.log.Warn("used refresh token presented again, session ended", "session", s.logHash("session", session.ID.String()))
		s.waiting.wakeSession(session.ID)
	}
	if err := orErr(err, refused); err != nil {
		return nil, err
	}
	g, err := s.signer(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := s.sessionAnswer(g, session, token)
	if err != nil {
		return nil, err
	}
	answer.Notices = notices
	mode := ""
	if len(in.Body.RefreshToken) == 0 {
		mode = tokensCookie
	}
	return s.signedIn(mode, answer)
}

func (s *Server) logout(ctx context.Context, _ *struct{}) (*cookieOutput, error) {
	id := caller(ctx)
	err := s.Store.Update(ctx, func(w Writer) error { return w.DeleteSession(id.session) })
	s.waiting.wakeSession(id.session)
	return s.signedOut(), err
}
