package labeled

import (
	"crypto/rand"

	"github.com/cloudflare/circl/dh/x25519"
)

// x25519Group is X25519 (RFC 7748) as HPKE uses it.
type x25519Group struct{}

func (g x25519Group) generate() (private, public []byte, err error) {
	private = make([]byte, x25519.Size)
	rand.Read(private) // never fails
	public, err = g.public(private)
	return private, public, err
}

func (x25519Group) public(private []byte) ([]byte, error) {
	if len(private) != x25519.Size {
		return nil, ErrPrivateKey
	}
	var public x25519.Key
	x25519.KeyGen(&public, (*x25519.Key)(private))
	return public[:], nil
}

// check refuses points of low order: one such key in a tree would make every
// later Commit over it fail.
func (x25519Group) check(public []byte) error {
	if len(public) != x25519.Size || lowOrder25519([32]byte(public)) {
		return ErrPublicKey
	}
	return nil
}

func (x25519Group) shared(private, public []byte) ([]byte, error) {
	if len(private) != x25519.Size {
		return nil, ErrPrivateKey
	}
	if len(public) != x25519.Size {
		return nil, ErrPublicKey
	}
	var shared x25519.Key
	if !x25519.Shared(&shared, (*x25519.Key)(private), (*x25519.Key)(public)) {
		return nil, ErrPublicKey
	}
	return shared[:], nil
}

func (g x25519Group) derive(k kdf, ikm []byte) (private, public []byte, err error) {
	private = k.expand(k.extract(nil, "dkp_prk", ikm), "sk", nil, x25519.Size)
	public, err = g.public(private)
	return private, public, err
}

// lowOrderPoints are the u-coordinates below 2^255 whose product with any
// scalar is zero (RFC 7748 section 6.1 has the check for zero that they fail).
var lowOrderPoints = [][32]byte{
	{},
	{1},
	{
		0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a,
		0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
	},
	{
		0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
		0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
	},
	nearPrime(0xec),
	nearPrime(0xed),
	nearPrime(0xee),
}

// nearPrime returns 2^255-19-0xed+first in little-endian form.
func nearPrime(first byte) (p [32]byte) {
	for i := range p {
		p[i] = 0xff
	}
	p[0], p[31] = first, 0x7f
	return p
}

// lowOrder25519 reports whether u is one of lowOrderPoints; the top bit does
// not count. The key is public, so time does not matter.
func lowOrder25519(u [32]byte) bool {
	u[31] &= 0x7f
	for _, p := range lowOrderPoints {
		if u == p {
			return true
		}
	}
	return false
}
