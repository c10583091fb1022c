package labeled

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
)

// ecdsaScheme is ECDSA on a NIST curve. Public keys are uncompressed points,
// signatures are in DER (RFC 9420 section 5.1.1, RFC 8446 section 4.2.3).
type ecdsaScheme struct {
	curve elliptic.Curve
	hash  crypto.Hash
}

var (
	ecdsaP256 = ecdsaScheme{curve: elliptic.P256(), hash: crypto.SHA256}
	ecdsaP384 = ecdsaScheme{curve: elliptic.P384(), hash: crypto.SHA384}
	ecdsaP521 = ecdsaScheme{curve: elliptic.P521(), hash: crypto.SHA512}
)

func (e ecdsaScheme) generate() (private, public []byte, err error) {
	k, err := ecdsa.GenerateKey(e.curve, rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if private, err = k.Bytes(); err != nil {
		return nil, nil, err
	}
	public, err = k.PublicKey.Bytes()
	return private, public, err
}

func (e ecdsaScheme) public(private []byte) ([]byte, error) {
	k, err := e.private(private)
	if err != nil {
		return nil, ErrPrivateKey
	}
	return k.PublicKey.Bytes()
}

func (e ecdsaScheme) private(b []byte) (*ecdsa.PrivateKey, error) {
	return ecdsa.ParseRawPrivateKey(e.curve, scalar(b, (e.curve.Params().BitSize+7)/8))
}

// check refuses points that are not on the curve.
func (e ecdsaScheme) check(public []byte) error {
	if _, err := ecdsa.ParseUncompressedPublicKey(e.curve, public); err != nil {
		return ErrPublicKey
	}
	return nil
}

func (e ecdsaScheme) sign(private, message []byte) ([]byte, error) {
	k, err := e.private(private)
	if err != nil {
		return nil, ErrPrivateKey
	}
	return ecdsa.SignASN1(rand.Reader, k, e.digest(message))
}

func (e ecdsaScheme) verify(public, message, signature []byte) bool {
	k, err := ecdsa.ParseUncompressedPublicKey(e.curve, public)
	return err == nil && ecdsa.VerifyASN1(k, e.digest(message), signature)
}

func (e ecdsaScheme) digest(message []byte) []byte {
	h := e.hash.New()
	h.Write(message)
	return h.Sum(nil)
}
