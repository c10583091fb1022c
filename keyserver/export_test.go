package keyserver

import (
	"context"
	"time"
)

// Waiting is the number of long-polls that wait now.
func (s *Server) Waiting() int {
	s.waiting.mu.Lock()
	defer s.waiting.mu.Unlock()
	n := 0
	for _, p := range s.waiting.polls {
		n += p
	}
	return n
}

// DecodeStrict is decodeStrict, for the fuzz target.
var DecodeStrict = decodeStrict

// FreeAtOnce is how many objects one transaction deletes.
const FreeAtOnce = freeAtOnce

// CheckTx is checkTx, for the fuzz target.
var CheckTx = checkTx

// MayChange is mayChange for a caller whose token was checked a moment ago, when
// the session was, or was not, one opened with the recovery code.
func (s *Server) MayChange(ctx context.Context, u, session []byte, recovering bool, oldAuth []byte) error {
	return s.Store.View(ctx, func(r Reader) error {
		_, _, err := s.mayChange(r, identity{user: UserID(u), session: SessionID(session), recovering: recovering}, oldAuth)
		return err
	})
}

// CBOR gives the encoder and the strict decoder of bodies.
func CBOR() (encode func(any) ([]byte, error), decode func([]byte, any) error) {
	m, err := newCBOR()
	if err != nil {
		panic(err)
	}
	return m.enc.Marshal, m.decode
}

// OpenBodies is the number of bodies without a token that are being read.
func (s *Server) OpenBodies() int {
	s.open.mu.Lock()
	defer s.open.mu.Unlock()
	n := 0
	for _, f := range s.open.from {
		n += f
	}
	return n
}

// HeldOctets is the number of octets of bodies and answers that are in memory.
func (s *Server) HeldOctets() int64 {
	s.large.mu.Lock()
	defer s.large.mu.Unlock()
	return s.large.all
}

// SetSendWindow changes how long a client has for a part of an answer. It is
// called before the first request.
func (s *Server) SetSendWindow(d time.Duration) { s.sendWindow = d }
