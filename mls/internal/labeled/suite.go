// Package labeled holds the primitives of a cipher suite and the labelled
// operations of RFC 9420 on top of them: SignWithLabel (section 5.1.2),
// EncryptWithLabel (5.1.3), RefHash (5.2) and ExpandWithLabel (8). It is the
// only place of package mls that touches a cryptographic library.
//
// A Suite is immutable and safe for concurrent use. No function keeps or
// changes its arguments.
//
// Each primitive is of the provider that measured fastest; BenchmarkPrimitives
// measures them again. Microseconds of processor time on one core of an x86-64
// server, least of four runs, standard library (Go 1.26) : circl 1.6.5, the
// choice in brackets; HPKE with 300 bytes and its info, keys in encoded form:
//
//	X25519 key, shared secret      36, 35 : [20, 29]
//	X448 key, shared secret             – : [74, 120]
//	P-256 key, shared secret     [13, 52] : the same code
//	P-384 key, shared secret   [111, 372] : the same code
//	P-521 key, shared secret  [306, 1048] : the same code
//	ML-KEM-768 key, seal, open 46, 55, 52 : [29, 35, 20]
//	X-Wing seal, open                   – : [86, 98]
//	Ed25519 sign, verify         [35, 42] : 40, 44
//	Ed448 sign, verify                  – : [141, 161]
//	ECDSA P-256 sign, verify     [33, 71] : –
//	ECDSA P-384 sign, verify   [201, 548] : –
//	ECDSA P-521 sign, verify  [528, 1504] : –
//	HPKE X25519 seal, open         83, 80 : 65, 58    here [56, 36]
//	HPKE P-256 seal, open          74, 73 : 74, 76    here [74, 75]
//	HPKE X448 seal, open                – : 224, 218  here [215, 137]
//	HPKE X-Wing seal, open       140, 184 : 110, 127  here [88, 109]
//
// HPKE itself is composed here (hpke.go): it takes either provider's group,
// derives only what one message needs, and opens without computing the public
// key again.
package labeled

import (
	"crypto"
	_ "crypto/sha256" // registers the hash of the suites below
	_ "crypto/sha512" // registers the hash of the suites below
	"errors"
	"maps"
	"slices"
)

// Errors of the primitives. They never say more than that.
var (
	ErrSignature  = errors.New("signature does not verify")
	ErrDecrypt    = errors.New("decryption failed")
	ErrPublicKey  = errors.New("invalid public key")
	ErrPrivateKey = errors.New("invalid private key")
)

// XWing is the value of the suite with a post-quantum KEM. None is assigned for
// it by IANA; this one is of the range for private use (RFC 9420 section 17.1).
// It stands for exactly these algorithms, and changes if one of them does:
//
//   - KEM: MLKEM768-X25519 of draft-ietf-hpke-pq, also called X-Wing, which is
//     0x647a in the HPKE registry, with DeriveKeyPair as that draft has it
//   - KDF: HKDF-SHA256 (0x0001); AEAD: AES-128-GCM (0x0001)
//   - hash: SHA-256; signature: Ed25519
const XWing = 0xf47a

// Suite is one row of the IANA registry "MLS Cipher Suites" (RFC 9420 section
// 17.1).
type Suite struct {
	ID   uint16
	Name string
	// Nh is the size of a hash and of a secret, Nk and Nn those of an AEAD key
	// and nonce, all in bytes.
	Nh, Nk, Nn int

	hash crypto.Hash
	hpke hpkeBase
	aead aeadScheme
	sig  signatureScheme
}

// suites are the cipher suites that this build supports.
var suites = map[uint16]*Suite{
	0x0001: newSuite(0x0001, "MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519", dhkem25519, aes128gcm, crypto.SHA256, ed25519Scheme{}),
	0x0002: newSuite(0x0002, "MLS_128_DHKEMP256_AES128GCM_SHA256_P256", dhkemP256, aes128gcm, crypto.SHA256, ecdsaP256),
	0x0003: newSuite(0x0003, "MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519", dhkem25519, chacha20poly1305Scheme, crypto.SHA256, ed25519Scheme{}),
	0x0004: newSuite(0x0004, "MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448", dhkem448, aes256gcm, crypto.SHA512, ed448Scheme{}),
	0x0005: newSuite(0x0005, "MLS_256_DHKEMP521_AES256GCM_SHA512_P521", dhkemP521, aes256gcm, crypto.SHA512, ecdsaP521),
	0x0006: newSuite(0x0006, "MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448", dhkem448, chacha20poly1305Scheme, crypto.SHA512, ed448Scheme{}),
	0x0007: newSuite(0x0007, "MLS_256_DHKEMP384_AES256GCM_SHA384_P384", dhkemP384, aes256gcm, crypto.SHA384, ecdsaP384),
	XWing:  newSuite(XWing, "MLS_128_XWING_AES128GCM_SHA256_Ed25519", xwingKEM{}, aes128gcm, crypto.SHA256, ed25519Scheme{}),
}

func newSuite(id uint16, name string, k kem, a aeadScheme, h crypto.Hash, sig signatureScheme) *Suite {
	return &Suite{
		ID: id, Name: name, Nh: h.Size(), Nk: a.keySize, Nn: aeadNonceSize,
		hash: h, hpke: newHPKE(k, h, a), aead: a, sig: sig,
	}
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

// IDs returns the values of the supported suites, ascending.
func IDs() []uint16 { return slices.Sorted(maps.Keys(suites)) }
