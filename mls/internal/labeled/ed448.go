package labeled

import (
	"crypto/rand"

	"github.com/cloudflare/circl/ecc/goldilocks"
	"github.com/cloudflare/circl/sign/ed448"
)

// ed448Scheme is Ed448 with an empty context (RFC 9420 section 5.1.1).
// Signatures are verified one by one, by circl's rules: S below the order, and
// the equation of RFC 8032 section 5.2.7 without the cofactor.
type ed448Scheme struct{}

func (ed448Scheme) generate() (private, public []byte, err error) {
	private = make([]byte, ed448.SeedSize)
	rand.Read(private) // never fails
	return private, ed448.NewKeyFromSeed(private).Public().(ed448.PublicKey), nil
}

func (ed448Scheme) public(private []byte) ([]byte, error) {
	if len(private) != ed448.SeedSize {
		return nil, ErrPrivateKey
	}
	return ed448.NewKeyFromSeed(private).Public().(ed448.PublicKey), nil
}

func (ed448Scheme) check(public []byte) error {
	if len(public) != ed448.PublicKeySize {
		return ErrPublicKey
	}
	if _, err := goldilocks.FromBytes(public); err != nil {
		return ErrPublicKey
	}
	return nil
}

func (ed448Scheme) sign(private, message []byte) ([]byte, error) {
	if len(private) != ed448.SeedSize {
		return nil, ErrPrivateKey
	}
	return ed448.Sign(ed448.NewKeyFromSeed(private), message, ""), nil
}

func (ed448Scheme) verify(public, message, signature []byte) bool {
	return ed448.Verify(public, message, signature, "") // checks the lengths
}
