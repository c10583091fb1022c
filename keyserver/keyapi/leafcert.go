package keyapi

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// Versions of LeafCert: the second one has rotations, the first has none.
const (
	LeafCertVersion        = 1
	LeafCertVersionRotated = 2
)

// LeafCertEd25519 is the algorithm of identity key and signature, as TLS
// SignatureScheme (RFC 8446 section 4.2.3).
const LeafCertEd25519 = 0x0807

// Limits of a LeafCert, checked when it is made and when it is parsed.
const (
	MaxLeafCertSize = 4 << 10 // the whole encoding
	MaxPlatformSize = 64
	MaxAccountID    = 1024
	MaxLeafKeySize  = 256 // P-521 needs 133, Ed448 57
)

const leafCertLabel = "cloudmls/1 leafcert"

// LeafCert is the identity of a basic MLS credential (RFC 9420 section 5.3):
// the identity key of an account states that a leaf signature key speaks for
// the account, in one cipher suite and for a time. Times are seconds since the
// epoch. The encoding is that of docs/spec/keyserver-api.md.
type LeafCert struct {
	Version     uint8
	Algorithm   uint16
	Platform    string
	AccountID   string
	IdentityKey []byte // Ed25519, 32 octets
	LeafKey     []byte // the leaf's signature key, as in the LeafNode
	Suite       uint16
	NotBefore   uint64
	NotAfter    uint64
	// Rotations lead from earlier identity keys of the account to IdentityKey,
	// oldest first, so that whoever knows one of them can follow. At most
	// MaxRotations; none in version 1.
	Rotations []Rotation
	Signature []byte // by IdentityKey, 64 octets
}

// ErrLeafCert is matched by every error of ParseLeafCert and of LeafCert.Verify.
var ErrLeafCert = errors.New("leaf certificate")

func leafCertError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrLeafCert, fmt.Sprintf(format, args...))
}

// Account is the account that the certificate speaks of.
func (c *LeafCert) Account() Account { return Account{Platform: c.Platform, ID: c.AccountID} }

// Sign fills Version, Algorithm, IdentityKey and Signature.
func (c *LeafCert) Sign(identity ed25519.PrivateKey) error {
	if len(identity) != ed25519.PrivateKeySize {
		return leafCertError("identity key of %d octets", len(identity))
	}
	c.Version, c.Algorithm = LeafCertVersion, LeafCertEd25519
	if len(c.Rotations) > 0 {
		c.Version = LeafCertVersionRotated
	}
	c.IdentityKey = bytes.Clone(identity.Public().(ed25519.PublicKey))
	if err := c.check(); err != nil {
		return err
	}
	c.Signature = ed25519.Sign(identity, c.signingInput())
	return nil
}

// Verify checks the form and the signature. It says nothing about time, nor
// whether IdentityKey is the one that the account is known by: the caller
// compares Account, IdentityKey, LeafKey and Suite with what it expects.
func (c *LeafCert) Verify() error {
	if err := c.check(); err != nil {
		return err
	}
	if len(c.Signature) != ed25519.SignatureSize {
		return leafCertError("signature of %d octets", len(c.Signature))
	}
	if !ed25519.Verify(ed25519.PublicKey(c.IdentityKey), c.signingInput(), c.Signature) {
		return leafCertError("signature does not verify")
	}
	if err := VerifyRotations(c.Account(), c.Rotations, c.IdentityKey); err != nil {
		return fmt.Errorf("%w: %w", ErrLeafCert, err)
	}
	return nil
}

// ValidAt tells whether t lies between NotBefore and NotAfter, both included.
func (c *LeafCert) ValidAt(t time.Time) bool {
	s := t.Unix()
	return s >= 0 && uint64(s) >= c.NotBefore && uint64(s) <= c.NotAfter
}

// MarshalBinary gives the one encoding of a signed certificate.
func (c *LeafCert) MarshalBinary() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	if len(c.Signature) != ed25519.SignatureSize {
		return nil, leafCertError("not signed")
	}
	return appendOpaque16(c.tbs(), c.Signature), nil
}

// ParseLeafCert reads what MarshalBinary wrote and nothing else: trailing
// octets, other lengths and other versions are refused. The signature is not
// checked, Verify does that.
func ParseLeafCert(b []byte) (*LeafCert, error) {
	if len(b) > MaxLeafCertSize {
		return nil, leafCertError("%d octets, limit %d", len(b), MaxLeafCertSize)
	}
	r := leafCertReader{rest: b}
	c := &LeafCert{
		Version:     uint8(r.uint(1)),
		Algorithm:   uint16(r.uint(2)),
		Platform:    string(r.opaque(MaxPlatformSize)),
		AccountID:   string(r.opaque(MaxAccountID)),
		IdentityKey: r.opaque(ed25519.PublicKeySize),
		LeafKey:     r.opaque(MaxLeafKeySize),
		Suite:       uint16(r.uint(2)),
		NotBefore:   r.uint(8),
		NotAfter:    r.uint(8),
	}
	if c.Version == LeafCertVersionRotated {
		c.Rotations = r.rotations(c.IdentityKey)
	}
	c.Signature = r.opaque(ed25519.SignatureSize)
	switch {
	case r.failed:
		return nil, leafCertError("cut short, or a field over its limit")
	case len(r.rest) != 0:
		return nil, leafCertError("%d octets too many", len(r.rest))
	case len(c.Signature) != ed25519.SignatureSize:
		return nil, leafCertError("signature of %d octets", len(c.Signature))
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *LeafCert) check() error {
	switch {
	case c.Version != LeafCertVersion && c.Version != LeafCertVersionRotated:
		return leafCertError("version %d is not known", c.Version)
	case (c.Version == LeafCertVersionRotated) != (len(c.Rotations) > 0) || len(c.Rotations) > MaxRotations:
		return leafCertError("%d rotations in version %d", len(c.Rotations), c.Version)
	case c.Algorithm != LeafCertEd25519:
		return leafCertError("algorithm 0x%04x is not known", c.Algorithm)
	case len(c.IdentityKey) != ed25519.PublicKeySize:
		return leafCertError("identity key of %d octets", len(c.IdentityKey))
	case len(c.LeafKey) == 0 || len(c.LeafKey) > MaxLeafKeySize:
		return leafCertError("leaf key of %d octets", len(c.LeafKey))
	case c.NotAfter < c.NotBefore:
		return leafCertError("ends before it begins")
	}
	if err := c.Account().Check(); err != nil {
		return leafCertError("%v", err)
	}
	return nil
}

// Check tells whether the account has a form that a key server accepts: a
// platform of 1 to 64 characters out of a-z, 0-9 and "-", and an id of 1 to
// 1024 octets of UTF-8 without NUL.
func (a Account) Check() error {
	if len(a.Platform) == 0 || len(a.Platform) > MaxPlatformSize {
		return fmt.Errorf("platform of %d octets", len(a.Platform))
	}
	for _, r := range []byte(a.Platform) {
		if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
			return errors.New("platform has characters other than a-z, 0-9 and -")
		}
	}
	if len(a.ID) == 0 || len(a.ID) > MaxAccountID {
		return fmt.Errorf("account id of %d octets", len(a.ID))
	}
	if !utf8.ValidString(a.ID) || bytes.IndexByte([]byte(a.ID), 0) >= 0 {
		return errors.New("account id is not UTF-8 without NUL")
	}
	return nil
}

func (c *LeafCert) tbs() []byte {
	b := append(make([]byte, 0, 256), c.Version)
	b = binary.BigEndian.AppendUint16(b, c.Algorithm)
	b = appendOpaque16(b, []byte(c.Platform))
	b = appendOpaque16(b, []byte(c.AccountID))
	b = appendOpaque16(b, c.IdentityKey)
	b = appendOpaque16(b, c.LeafKey)
	b = binary.BigEndian.AppendUint16(b, c.Suite)
	b = binary.BigEndian.AppendUint64(b, c.NotBefore)
	b = binary.BigEndian.AppendUint64(b, c.NotAfter)
	if c.Version != LeafCertVersionRotated {
		return b
	}
	b = append(b, byte(len(c.Rotations)))
	for _, r := range c.Rotations {
		b = appendOpaque16(b, r.Previous)
		b = binary.BigEndian.AppendUint64(b, r.Time)
		b = appendOpaque16(b, r.Signature)
	}
	return b
}

func (c *LeafCert) signingInput() []byte {
	return append(appendOpaque16(nil, []byte(leafCertLabel)), c.tbs()...)
}

// appendOpaque16 appends opaque v<0..2^16-1> of the TLS presentation language.
// Callers have checked the length.
func appendOpaque16(b, v []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
}

type leafCertReader struct {
	rest   []byte
	failed bool
}

func (r *leafCertReader) take(n int) []byte {
	if r.failed || n > len(r.rest) {
		r.failed = true
		return nil
	}
	v := r.rest[:n]
	r.rest = r.rest[n:]
	return v
}

func (r *leafCertReader) uint(n int) uint64 {
	var v uint64
	for _, b := range r.take(n) {
		v = v<<8 | uint64(b)
	}
	return v
}

func (r *leafCertReader) opaque(limit int) []byte {
	n := int(r.uint(2))
	if n > limit {
		r.failed = true
	}
	return bytes.Clone(r.take(n))
}

// rotations reads the steps; each one's Next is the Previous of the one after
// it, and key at the end.
func (r *leafCertReader) rotations(key []byte) []Rotation {
	n := int(r.uint(1))
	if n > MaxRotations {
		r.failed = true
	}
	var steps []Rotation
	for i := 0; i < n && !r.failed; i++ {
		step := Rotation{Previous: r.opaque(ed25519.PublicKeySize), Time: r.uint(8), Signature: r.opaque(ed25519.SignatureSize)}
		if i > 0 {
			steps[i-1].Next = bytes.Clone(step.Previous)
		}
		steps = append(steps, step)
	}
	if len(steps) > 0 {
		steps[len(steps)-1].Next = bytes.Clone(key)
	}
	return steps
}
