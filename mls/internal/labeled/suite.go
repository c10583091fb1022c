// Package labeled holds the primitives of a cipher suite and the labelled
// operations of RFC 9420 on top of them: SignWithLabel (section 5.1.2),
// EncryptWithLabel (5.1.3), RefHash (5.2) and ExpandWithLabel (8). It is the
// only place of package mls that touches a cryptographic library.
//
// A Suite is immutable and safe for concurrent use. No function keeps or
// changes its arguments.
package labeled

import (
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	_ "crypto/sha256" // registers the hash of the suites below
	_ "crypto/sha512" // registers the hash of the suites below
	"errors"
)

// Errors of the primitives. They never say more than that.
var (
	ErrSignature  = errors.New("signature does not verify")
	ErrDecrypt    = errors.New("decryption failed")
	ErrPublicKey  = errors.New("invalid public key")
	ErrPrivateKey = errors.New("invalid private key")
)

// Suite is one row of the IANA registry "MLS Cipher Suites" (RFC 9420 section
// 17.1).
type Suite struct {
	ID   uint16
	Name string
	// Nh is the size of a hash and of a secret, Nk and Nn those of an AEAD key
	// and nonce, all in bytes.
	Nh, Nk, Nn int

	hash crypto.Hash
	kem  hpke.KEM
	kdf  hpke.KDF
	aead hpke.AEAD
	sig  signatureScheme
}

// suites are the cipher suites that this build supports.
var suites = map[uint16]*Suite{
	0x0001: {
		ID: 0x0001, Name: "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519",
		Nh: 32, Nk: 16, Nn: 12,
		hash: crypto.SHA256, kem: hpke.DHKEM(ecdh.X25519()), kdf: hpke.HKDFSHA256(), aead: hpke.AES128GCM(),
		sig: ed25519Scheme{},
	},
}

// ByID returns the suite with the given registry value; ok is false if it is
// not supported.
func ByID(id uint16) (s *Suite, ok bool) {
	s, ok = suites[id]
	return s, ok
}

// Supported reports whether ByID knows id.
func Supported(id uint16) bool {
	_, ok := suites[id]
	return ok
}
