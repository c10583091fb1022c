package labeled

import (
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// externalInitLabel is the exporter context of RFC 9420 section 8.3.
const externalInitLabel = "MLS 1.0 external init secret"

// GenerateKeyPair returns a fresh HPKE key pair.
func (s *Suite) GenerateKeyPair() (private, public []byte, err error) {
	private, public, err = s.hpke.kem.generate()
	if err != nil {
		return nil, nil, fmt.Errorf("generate hpke key: %w", err)
	}
	return private, public, nil
}

// DeriveKeyPair is KEM.DeriveKeyPair.
func (s *Suite) DeriveKeyPair(ikm []byte) (private, public []byte, err error) {
	private, public, err = s.hpke.kem.derive(ikm)
	if err != nil {
		return nil, nil, fmt.Errorf("derive hpke key: %w", err)
	}
	return private, public, nil
}

// PublicKey returns the HPKE public key of private.
func (s *Suite) PublicKey(private []byte) ([]byte, error) {
	return s.hpke.kem.public(private)
}

// CheckPublicKey refuses what cannot be an HPKE public key of the suite: what
// has the wrong form, is not on the curve, or is of low order.
func (s *Suite) CheckPublicKey(public []byte) error { return s.hpke.kem.check(public) }

// Encrypt is EncryptWithLabel of RFC 9420 section 5.1.3.
func (s *Suite) Encrypt(public []byte, label string, context, plaintext []byte) (kemOutput, ciphertext []byte, err error) {
	return s.Encryption(label, context).To(public, plaintext)
}

// Encryption is EncryptWithLabel of RFC 9420 section 5.1.3 to several public
// keys under one label and context: the context, which for a Welcome is a whole
// group, is hashed once and not for each of them. It is immutable and safe for
// concurrent use.
type Encryption struct {
	suite   *Suite
	label   string
	context []byte // of HPKE
}

// Encryption prepares an encryption. It does not keep context.
func (s *Suite) Encryption(label string, context []byte) *Encryption {
	return &Encryption{suite: s, label: label, context: s.hpke.context(encryptContext(label, context))}
}

// To encrypts to one public key.
func (e *Encryption) To(public, plaintext []byte) (kemOutput, ciphertext []byte, err error) {
	kemOutput, ciphertext, err = e.suite.hpke.seal(public, e.context, plaintext)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt %s: %w", e.label, err)
	}
	return kemOutput, ciphertext, nil
}

// Decrypt is DecryptWithLabel of RFC 9420 section 5.1.3. public is the public
// key of private, which saves computing it.
func (s *Suite) Decrypt(private, public []byte, label string, context, kemOutput, ciphertext []byte) ([]byte, error) {
	plaintext, err := s.hpke.open(private, public, kemOutput, encryptContext(label, context), ciphertext)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", label, ErrDecrypt)
	}
	return plaintext, nil
}

func encryptContext(label string, context []byte) []byte {
	b := make([]byte, 0, len(labelPrefix)+len(label)+len(context)+8)
	b = codec.AppendOpaque(b, []byte(labelPrefix+label))
	return codec.AppendOpaque(b, context)
}

// ExternalInit makes a fresh init secret for the holders of public (RFC 9420
// section 8.3).
func (s *Suite) ExternalInit(public []byte) (kemOutput, initSecret []byte, err error) {
	kemOutput, shared, err := s.hpke.kem.encap(public)
	if err != nil {
		return nil, nil, fmt.Errorf("external init: %w", err)
	}
	return kemOutput, s.hpke.export(shared, externalInitLabel, s.Nh), nil
}

// ReceiveExternalInit recovers the init secret of ExternalInit. public is the
// public key of private.
func (s *Suite) ReceiveExternalInit(private, public, kemOutput []byte) ([]byte, error) {
	shared, err := s.hpke.kem.decap(private, public, kemOutput)
	if err != nil {
		return nil, fmt.Errorf("external init: %w", ErrDecrypt)
	}
	return s.hpke.export(shared, externalInitLabel, s.Nh), nil
}
