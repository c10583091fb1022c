package mls

import (
	"slices"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// messageKey is the AEAD key and nonce of one generation.
type messageKey struct{ key, nonce []byte }

// skippedKey is the unused key of a generation that was passed.
type skippedKey struct {
	generation uint32
	key        messageKey
}

// ratchet is a sender ratchet (RFC 9420 section 9.1). It is never changed:
// taking a key gives the ratchet that has forgotten it.
type ratchet struct {
	secret  []byte // of generation next
	next    uint32
	skipped []skippedKey // ascending
}

// take returns the key of a generation, and the ratchet without it. It moves
// at most jump generations forward.
func (r *ratchet) take(s *labeled.Suite, generation, jump uint32) (messageKey, *ratchet, error) {
	if generation >= MaxGeneration {
		return messageKey{}, nil, ErrGenerationTooFar
	}
	if generation < r.next {
		at, found := slices.BinarySearchFunc(r.skipped, generation, func(k skippedKey, g uint32) int {
			return int(k.generation) - int(g)
		})
		if !found {
			return messageKey{}, nil, ErrReplayed
		}
		rest := slices.Concat(r.skipped[:at], r.skipped[at+1:])
		return r.skipped[at].key, &ratchet{secret: r.secret, next: r.next, skipped: rest}, nil
	}
	if generation-r.next > jump {
		return messageKey{}, nil, ErrGenerationTooFar
	}
	moved := &ratchet{secret: r.secret, next: r.next, skipped: slices.Clone(r.skipped)}
	for {
		key, err := moved.step(s)
		if err != nil {
			return messageKey{}, nil, err
		}
		if moved.next > generation {
			if excess := len(moved.skipped) - MaxSkippedKeys; excess > 0 {
				moved.drop(excess)
			}
			return key, moved, nil
		}
		moved.skipped = append(moved.skipped, skippedKey{generation: moved.next - 1, key: key})
	}
}

// drop forgets the n oldest keys kept for late messages, in place, and returns
// how many there were.
func (r *ratchet) drop(n int) int {
	n = min(n, len(r.skipped))
	r.skipped = slices.Clone(r.skipped[n:])
	return n
}

// step derives the key of the next generation and moves on, in place.
func (r *ratchet) step(s *labeled.Suite) (messageKey, error) {
	key, err := ratchetKey(s, r.secret, r.next)
	if err != nil {
		return messageKey{}, err
	}
	if r.secret, err = s.DeriveTreeSecret(r.secret, "secret", r.next, s.Nh); err != nil {
		return messageKey{}, err
	}
	r.next++
	return key, nil
}

// ratchetKey derives the key of a generation from its secret.
func ratchetKey(s *labeled.Suite, secret []byte, generation uint32) (k messageKey, err error) {
	if k.nonce, err = s.DeriveTreeSecret(secret, "nonce", generation, s.Nn); err != nil {
		return messageKey{}, err
	}
	if k.key, err = s.DeriveTreeSecret(secret, "key", generation, s.Nk); err != nil {
		return messageKey{}, err
	}
	return k, nil
}

func (r *ratchet) marshal(w *codec.Writer) {
	w.Opaque(r.secret)
	w.Uint32(r.next)
	w.Vector(func() {
		for _, k := range r.skipped {
			w.Uint32(k.generation)
			w.Opaque(k.key.key)
			w.Opaque(k.key.nonce)
		}
	})
}

func (r *ratchet) unmarshal(rd *codec.Reader) {
	r.secret = rd.OpaqueMax(maxHash)
	r.next = rd.Uint32()
	rd.Vector(MaxSkippedKeys, func(rd *codec.Reader) {
		k := skippedKey{generation: rd.Uint32()}
		k.key.key = rd.OpaqueMax(maxHash)
		k.key.nonce = rd.OpaqueMax(maxHash)
		if n := len(r.skipped); k.generation >= r.next || n > 0 && r.skipped[n-1].generation >= k.generation {
			rd.Fail(errOrder)
		}
		r.skipped = append(r.skipped, k)
	})
	if r.next > MaxGeneration {
		rd.Fail(ErrGenerationTooFar)
	}
}
