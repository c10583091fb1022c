package state

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
)

// SealPersonal seals data that only this user reads (own uploads) with the
// personal archive key, bound to bind. No network, no ratchet. The result is a
// CMS1 envelope.
func (s *Store) SealPersonal(_ context.Context, plaintext, bind []byte) ([]byte, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	n := s.now.Load()
	a, ok := n.ring.current(scopePersonal, "")
	if !ok {
		return nil, errors.New("seal own upload: keyring has no personal archive key")
	}
	k, err := n.sealingKey(typePersonal, a.Number)
	if err != nil {
		return nil, fmt.Errorf("seal own upload: %w", err)
	}
	defer clear(k)
	h := envelope.Header{KeyVersion: a.Number, Slot: s.slot}
	b, err := envelope.Seal(k, s.context(typePersonal, sha256.Sum256(bind)), h, plaintext)
	if err != nil {
		return nil, fmt.Errorf("seal own upload: %w", err)
	}
	return b, nil
}

// OpenPersonal opens what SealPersonal sealed with the same bind, on any of
// the user's devices. It asks the server only if another device made the key
// since the last Refresh.
func (s *Store) OpenPersonal(ctx context.Context, sealed, bind []byte) ([]byte, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	h, err := envelope.ParseHeader(sealed)
	if err != nil {
		return nil, fmt.Errorf("open own upload: %w", err)
	}
	n := s.now.Load()
	if _, ok := n.ring.archiveKey(h.KeyVersion); !ok {
		if _, err := s.Refresh(ctx); err != nil {
			return nil, fmt.Errorf("open own upload: %w", err)
		}
		n = s.now.Load()
	}
	k, err := n.sealingKey(typePersonal, h.KeyVersion)
	if err != nil {
		return nil, fmt.Errorf("open own upload: %w", err)
	}
	defer clear(k)
	_, pt, err := envelope.Open(k, s.context(typePersonal, sha256.Sum256(bind)), envelope.Expect{}, sealed)
	if err != nil {
		return nil, fmt.Errorf("open own upload: %w", err)
	}
	return pt, nil
}
