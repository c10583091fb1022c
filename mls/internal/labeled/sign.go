package labeled

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// signatureScheme is what a suite needs of its signature algorithm. Private
// keys are in the form of the official test vectors: the seed for EdDSA.
type signatureScheme interface {
	generate() (private, public []byte, err error)
	public(private []byte) ([]byte, error)
	check(public []byte) error
	sign(private, message []byte) ([]byte, error)
	verify(public, message, signature []byte) bool
}

// GenerateSignatureKey returns a fresh signature key pair.
func (s *Suite) GenerateSignatureKey() (private, public []byte, err error) {
	private, public, err = s.sig.generate()
	if err != nil {
		return nil, nil, fmt.Errorf("generate signature key: %w", err)
	}
	return private, public, nil
}

// SignaturePublicKey returns the public key of private.
func (s *Suite) SignaturePublicKey(private []byte) ([]byte, error) { return s.sig.public(private) }

// CheckSignatureKey refuses what cannot be a public key of the suite.
func (s *Suite) CheckSignatureKey(public []byte) error { return s.sig.check(public) }

// Sign is SignWithLabel of RFC 9420 section 5.1.2.
func (s *Suite) Sign(private []byte, label string, content []byte) ([]byte, error) {
	sig, err := s.sig.sign(private, signContent(label, content))
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", label, err)
	}
	return sig, nil
}

// Verify is VerifyWithLabel of RFC 9420 section 5.1.2.
func (s *Suite) Verify(public []byte, label string, content, signature []byte) error {
	if s.sig.check(public) != nil || !s.sig.verify(public, signContent(label, content), signature) {
		return fmt.Errorf("%s: %w", label, ErrSignature)
	}
	return nil
}

func signContent(label string, content []byte) []byte {
	var w codec.Writer
	w.Opaque([]byte(labelPrefix + label))
	w.Opaque(content)
	return w.Bytes()
}

type ed25519Scheme struct{}

func (ed25519Scheme) generate() (private, public []byte, err error) {
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	return priv.Seed(), pub, nil
}

func (ed25519Scheme) public(private []byte) ([]byte, error) {
	if len(private) != ed25519.SeedSize {
		return nil, ErrPrivateKey
	}
	return ed25519.NewKeyFromSeed(private).Public().(ed25519.PublicKey), nil
}

func (ed25519Scheme) check(public []byte) error {
	if len(public) != ed25519.PublicKeySize {
		return ErrPublicKey
	}
	return nil
}

func (ed25519Scheme) sign(private, message []byte) ([]byte, error) {
	if len(private) != ed25519.SeedSize {
		return nil, ErrPrivateKey
	}
	return ed25519.Sign(ed25519.NewKeyFromSeed(private), message), nil
}

func (ed25519Scheme) verify(public, message, signature []byte) bool {
	return ed25519.Verify(public, message, signature)
}
