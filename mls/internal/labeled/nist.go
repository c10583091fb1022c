package labeled

import (
	"crypto/ecdh"
	"crypto/rand"
)

// scalar returns a private key, a number, in the fixed size that it is
// serialized in: some implementations leave its leading zeros out.
func scalar(private []byte, size int) []byte {
	if len(private) == 0 || len(private) >= size {
		return private
	}
	return append(make([]byte, size-len(private), size), private...)
}

// nistGroup is a NIST curve as HPKE uses it. Points are in uncompressed form.
type nistGroup struct {
	curve ecdh.Curve
	size  int  // of a scalar, in bytes
	mask  byte // of the first byte of a scalar's candidate
}

var (
	p256 = nistGroup{curve: ecdh.P256(), size: 32, mask: 0xff}
	p384 = nistGroup{curve: ecdh.P384(), size: 48, mask: 0xff}
	p521 = nistGroup{curve: ecdh.P521(), size: 66, mask: 0x01}
)

func (g nistGroup) generate() (private, public []byte, err error) {
	k, err := g.curve.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	return k.Bytes(), k.PublicKey().Bytes(), nil
}

func (g nistGroup) public(private []byte) ([]byte, error) {
	k, err := g.curve.NewPrivateKey(scalar(private, g.size))
	if err != nil {
		return nil, ErrPrivateKey
	}
	return k.PublicKey().Bytes(), nil
}

// check refuses points that are not on the curve, and the point at infinity.
func (g nistGroup) check(public []byte) error {
	if _, err := g.curve.NewPublicKey(public); err != nil {
		return ErrPublicKey
	}
	return nil
}

func (g nistGroup) shared(private, public []byte) ([]byte, error) {
	k, err := g.curve.NewPrivateKey(scalar(private, g.size))
	if err != nil {
		return nil, ErrPrivateKey
	}
	p, err := g.curve.NewPublicKey(public)
	if err != nil {
		return nil, ErrPublicKey
	}
	return k.ECDH(p)
}

func (g nistGroup) derive(k kdf, ikm []byte) (private, public []byte, err error) {
	prk := k.extract(nil, "dkp_prk", ikm)
	for n := range 256 {
		candidate := k.expand(prk, "candidate", []byte{byte(n)}, g.size)
		candidate[0] &= g.mask
		// NewPrivateKey refuses zero and what is not below the order.
		if key, err := g.curve.NewPrivateKey(candidate); err == nil {
			return candidate, key.PublicKey().Bytes(), nil
		}
	}
	return nil, nil, ErrPrivateKey
}
