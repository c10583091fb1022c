package keyapi

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
)

const rotationLabel = "cloudmls/1 identity rotation"

// MaxRotations is how many of an account's last rotations a leaf certificate
// and an answer about the account carry. Whoever pinned an older key has to
// compare the new one.
const MaxRotations = 8

// ErrRotation is matched by every error of Rotation.Verify and VerifyRotations.
var ErrRotation = errors.New("identity rotation")

// Rotation is the statement of an account's identity key that another key takes
// its place. By itself it proves only that somebody held Previous: which of two
// rotations of one key counts, the Authentication Service decides.
type Rotation struct {
	Previous  []byte `json:"previous"`  // Ed25519, 32 octets
	Next      []byte `json:"next"`      // Ed25519, 32 octets
	Time      uint64 `json:"time"`      // seconds since the epoch
	Signature []byte `json:"signature"` // by Previous, 64 octets
}

// NewRotation signs the statement that next takes the place of previous.
func NewRotation(a Account, previous ed25519.PrivateKey, next ed25519.PublicKey, seconds uint64) (Rotation, error) {
	if len(previous) != ed25519.PrivateKeySize || len(next) != ed25519.PublicKeySize {
		return Rotation{}, fmt.Errorf("%w: key of a wrong length", ErrRotation)
	}
	r := Rotation{Previous: bytes.Clone(previous.Public().(ed25519.PublicKey)), Next: bytes.Clone(next), Time: seconds}
	if bytes.Equal(r.Previous, r.Next) {
		return Rotation{}, fmt.Errorf("%w: the key stays the same", ErrRotation)
	}
	r.Signature = ed25519.Sign(previous, r.signingInput(a))
	return r, nil
}

// Verify checks form and signature of a statement about an account.
func (r Rotation) Verify(a Account) error {
	switch {
	case len(r.Previous) != ed25519.PublicKeySize, len(r.Next) != ed25519.PublicKeySize:
		return fmt.Errorf("%w: key of a wrong length", ErrRotation)
	case len(r.Signature) != ed25519.SignatureSize:
		return fmt.Errorf("%w: signature of %d octets", ErrRotation, len(r.Signature))
	case bytes.Equal(r.Previous, r.Next):
		return fmt.Errorf("%w: the key stays the same", ErrRotation)
	}
	if err := a.Check(); err != nil {
		return fmt.Errorf("%w: %w", ErrRotation, err)
	}
	if !ed25519.Verify(r.Previous, r.signingInput(a), r.Signature) {
		return fmt.Errorf("%w: signature does not verify", ErrRotation)
	}
	return nil
}

// VerifyRotations checks a chain of an account's rotations, oldest first, that
// ends at key. In a chain no key occurs twice.
func VerifyRotations(a Account, chain []Rotation, key []byte) error {
	if len(chain) > MaxRotations {
		return fmt.Errorf("%w: chain of %d, limit %d", ErrRotation, len(chain), MaxRotations)
	}
	seen := map[string]bool{}
	for i, r := range chain {
		if err := r.Verify(a); err != nil {
			return err
		}
		if i > 0 && !bytes.Equal(chain[i-1].Next, r.Previous) {
			return fmt.Errorf("%w: the chain is broken", ErrRotation)
		}
		if seen[string(r.Previous)] || seen[string(r.Next)] {
			return fmt.Errorf("%w: a key occurs twice", ErrRotation)
		}
		seen[string(r.Previous)] = true
	}
	if n := len(chain); n > 0 && !bytes.Equal(chain[n-1].Next, key) {
		return fmt.Errorf("%w: the chain ends at another key", ErrRotation)
	}
	return nil
}

// RotationLeads tells whether a chain that was verified goes through key.
func RotationLeads(chain []Rotation, key []byte) bool {
	for _, r := range chain {
		if bytes.Equal(r.Previous, key) {
			return true
		}
	}
	return false
}

func (r Rotation) signingInput(a Account) []byte {
	b := []byte(rotationLabel)
	for _, f := range [][]byte{[]byte(a.Platform), []byte(a.ID), r.Previous, r.Next} {
		b = appendOpaque16(b, f)
	}
	return binary.BigEndian.AppendUint64(b, r.Time)
}

// RotationRequest replaces the identity key of an own account. In the same step
// all of its KeyPackages are removed: they speak for the key before.
type RotationRequest struct {
	Account  Account  `json:"account"`
	Rotation Rotation `json:"rotation"`
}
