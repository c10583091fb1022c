package labeled

import (
	"crypto/rand"

	"github.com/cloudflare/circl/dh/x448"
)

// x448Group is X448 (RFC 7748) as HPKE uses it.
type x448Group struct{}

func (g x448Group) generate() (private, public []byte, err error) {
	private = make([]byte, x448.Size)
	rand.Read(private) // never fails
	public, err = g.public(private)
	return private, public, err
}

func (x448Group) public(private []byte) ([]byte, error) {
	if len(private) != x448.Size {
		return nil, ErrPrivateKey
	}
	var public x448.Key
	x448.KeyGen(&public, (*x448.Key)(private))
	return public[:], nil
}

// check refuses points of low order: see x25519Group.check.
func (x448Group) check(public []byte) error {
	if len(public) != x448.Size || lowOrder448([56]byte(public)) {
		return ErrPublicKey
	}
	return nil
}

func (x448Group) shared(private, public []byte) ([]byte, error) {
	if len(private) != x448.Size {
		return nil, ErrPrivateKey
	}
	if len(public) != x448.Size {
		return nil, ErrPublicKey
	}
	var shared x448.Key
	if !x448.Shared(&shared, (*x448.Key)(private), (*x448.Key)(public)) {
		return nil, ErrPublicKey
	}
	return shared[:], nil
}

func (g x448Group) derive(k kdf, ikm []byte) (private, public []byte, err error) {
	private = k.expand(k.extract(nil, "dkp_prk", ikm), "sk", nil, x448.Size)
	public, err = g.public(private)
	return private, public, err
}

// lowOrder448 reports whether u is a u-coordinate whose product with any scalar
// is zero: 0, 1, p-1, p and p+1 with p = 2^448-2^224-1. The key is public, so
// time does not matter.
func lowOrder448(u [56]byte) bool {
	var zero, one, p [56]byte
	one[0] = 1
	for i := range p {
		p[i] = 0xff
	}
	p[28] = 0xfe
	before, after := p, [56]byte{}
	before[0] = 0xfe
	for i := 28; i < 56; i++ { // p+1 = 2^448-2^224
		after[i] = 0xff
	}
	return u == zero || u == one || u == before || u == p || u == after
}
