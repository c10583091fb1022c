package mls

import (
	"fmt"
	"log/slog"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// CipherSuite is a value of the IANA registry "MLS Cipher Suites" (RFC 9420
// sections 5.1 and 17.1).
type CipherSuite uint16

// The cipher suites of RFC 9420 section 17.1. Every implementation has the
// first one.
const (
	MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519        CipherSuite = 0x0001
	MLS_128_DHKEMP256_AES128GCM_SHA256_P256             CipherSuite = 0x0002
	MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519 CipherSuite = 0x0003
	MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448            CipherSuite = 0x0004
	MLS_256_DHKEMP521_AES256GCM_SHA512_P521             CipherSuite = 0x0005
	MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448     CipherSuite = 0x0006
	MLS_256_DHKEMP384_AES256GCM_SHA384_P384             CipherSuite = 0x0007
)

// MLS_128_XWING_AES128GCM_SHA256_Ed25519 is the first suite with a
// post-quantum KEM: MLKEM768-X25519, also called X-Wing, 0x647a in the HPKE
// registry, as draft-ietf-hpke-pq defines it. IANA has assigned it no value;
// this one is for private use, and others use other values for it.
const MLS_128_XWING_AES128GCM_SHA256_Ed25519 CipherSuite = labeled.XWing

// CipherSuites returns the suites that this package implements, ascending.
func CipherSuites() []CipherSuite {
	ids := labeled.IDs()
	list := make([]CipherSuite, len(ids))
	for i, id := range ids {
		list[i] = CipherSuite(id)
	}
	return list
}

// Supported reports whether this package implements cs.
func (cs CipherSuite) Supported() bool { return labeled.Supported(uint16(cs)) }

// String returns the registered name, or the number of an unknown suite.
func (cs CipherSuite) String() string {
	if s, ok := labeled.ByID(uint16(cs)); ok {
		return s.Name
	}
	return fmt.Sprintf("0x%04x", uint16(cs))
}

func (cs CipherSuite) suite() (*labeled.Suite, error) {
	s, ok := labeled.ByID(uint16(cs))
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnsupportedSuite, cs)
	}
	return s, nil
}

// ProtocolVersion is the version of MLS (RFC 9420 section 6).
type ProtocolVersion uint16

// MLS10 is the only version there is.
const MLS10 ProtocolVersion = 1

// Epoch numbers the states of a group, from 0.
type Epoch uint64

// LeafIndex is the position of a member in the ratchet tree. It names a member
// only within one epoch.
type LeafIndex uint32

// GroupID names an MLS group: opaque bytes, kept in a string so that it can be
// compared and used as a map key.
type GroupID string

// String returns the id in hexadecimal.
func (id GroupID) String() string { return fmt.Sprintf("%x", string(id)) }

// SignaturePrivateKey is a member's signature key. For the EdDSA suites it is
// the seed (32 bytes for Ed25519, 57 for Ed448), for the ECDSA suites the
// scalar, big-endian. It prints as "[redacted]".
type SignaturePrivateKey []byte

// String returns "[redacted]".
func (SignaturePrivateKey) String() string { return "[redacted]" }

// GoString returns "[redacted]".
func (SignaturePrivateKey) GoString() string { return "[redacted]" }

// Format writes "[redacted]" whatever the verb.
func (SignaturePrivateKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// LogValue returns "[redacted]".
func (SignaturePrivateKey) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// GenerateSignatureKey returns a fresh signature key of suite cs and its
// public key.
func GenerateSignatureKey(cs CipherSuite) (SignaturePrivateKey, []byte, error) {
	s, err := cs.suite()
	if err != nil {
		return nil, nil, err
	}
	return s.GenerateSignatureKey()
}

// PublicKey returns the public key of k in suite cs.
func (k SignaturePrivateKey) PublicKey(cs CipherSuite) ([]byte, error) {
	s, err := cs.suite()
	if err != nil {
		return nil, err
	}
	return s.SignaturePublicKey(k)
}
