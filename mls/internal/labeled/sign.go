package labeled

import (
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// signatureScheme is what a suite needs of its signature algorithm (RFC 9420
// section 5.1.1). Private keys are in the form of the official test vectors:
// the seed for EdDSA, the scalar for ECDSA. verify refuses whatever check
// refuses.
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

// Sign is SignWithLabel of RFC 9420 section 5.1.2. The content may come in parts.
func (s *Suite) Sign(private []byte, label string, content ...[]byte) ([]byte, error) {
	sig, err := s.sig.sign(private, signContent(label, content...))
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", label, err)
	}
	return sig, nil
}

// Verify is VerifyWithLabel of RFC 9420 section 5.1.2.
func (s *Suite) Verify(public []byte, label string, content, signature []byte) error {
	return s.VerifyParts(public, label, signature, content)
}

// longContent is the size of signed content, in bytes, from which it is not
// copied to verify it.
const longContent = 16 << 10

// partsVerifier is a signatureScheme that verifies a message in parts, judging
// as verify does.
type partsVerifier interface {
	verifyParts(public, signature []byte, message ...[]byte) bool
}

// VerifyParts is Verify of content that comes in parts.
func (s *Suite) VerifyParts(public []byte, label string, signature []byte, content ...[]byte) error {
	size := length(content)
	v, ok := s.sig.(partsVerifier)
	if !ok || size < longContent {
		if !s.sig.verify(public, signContent(label, content...), signature) {
			return fmt.Errorf("%s: %w", label, ErrSignature)
		}
		return nil
	}
	head := codec.AppendLength(codec.AppendOpaque(nil, []byte(labelPrefix+label)), size)
	if !v.verifyParts(public, signature, append([][]byte{head}, content...)...) {
		return fmt.Errorf("%s: %w", label, ErrSignature)
	}
	return nil
}

// signContent is SignContent of RFC 9420 section 5.1.2.
func signContent(label string, content ...[]byte) []byte {
	size := length(content)
	b := make([]byte, 0, len(labelPrefix)+len(label)+size+8)
	b = codec.AppendOpaque(b, []byte(labelPrefix+label))
	b = codec.AppendLength(b, size)
	for _, part := range content {
		b = append(b, part...)
	}
	return b
}

func length(parts [][]byte) (n int) {
	for _, p := range parts {
		n += len(p)
	}
	return n
}
