package labeled

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// externalInitLabel is the exporter context of RFC 9420 section 8.3.
const externalInitLabel = "MLS 1.0 external init secret"

// GenerateKeyPair returns a fresh HPKE key pair.
func (s *Suite) GenerateKeyPair() (private, public []byte, err error) {
	k, err := s.kem.GenerateKey()
	if err != nil {
		return nil, nil, fmt.Errorf("generate hpke key: %w", err)
	}
	return keyPair(k)
}

// DeriveKeyPair is KEM.DeriveKeyPair.
func (s *Suite) DeriveKeyPair(ikm []byte) (private, public []byte, err error) {
	k, err := s.kem.DeriveKeyPair(ikm)
	if err != nil {
		return nil, nil, fmt.Errorf("derive hpke key: %w", err)
	}
	return keyPair(k)
}

func keyPair(k hpke.PrivateKey) (private, public []byte, err error) {
	private, err = k.Bytes()
	if err != nil {
		return nil, nil, fmt.Errorf("encode hpke key: %w", err)
	}
	return private, k.PublicKey().Bytes(), nil
}

// PublicKey returns the HPKE public key of private.
func (s *Suite) PublicKey(private []byte) ([]byte, error) {
	k, err := s.kem.NewPrivateKey(private)
	if err != nil {
		return nil, ErrPrivateKey
	}
	return k.PublicKey().Bytes(), nil
}

// CheckPublicKey refuses what cannot be an HPKE public key of the suite, and
// the X25519 points to which nobody could encrypt: one such key in a tree
// would make every later Commit over it fail.
func (s *Suite) CheckPublicKey(public []byte) error {
	if _, err := s.kem.NewPublicKey(public); err != nil {
		return ErrPublicKey
	}
	if s.kem.ID() == kemX25519 && lowOrder(public) {
		return ErrPublicKey
	}
	return nil
}

// Encrypt is EncryptWithLabel of RFC 9420 section 5.1.3.
func (s *Suite) Encrypt(public []byte, label string, context, plaintext []byte) (kemOutput, ciphertext []byte, err error) {
	pk, err := s.kem.NewPublicKey(public)
	if err != nil {
		return nil, nil, ErrPublicKey
	}
	kemOutput, sender, err := hpke.NewSender(pk, s.kdf, s.aead, encryptContext(label, context))
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt %s: %w", label, err)
	}
	ciphertext, err = sender.Seal(nil, plaintext)
	if err != nil {
		return nil, nil, fmt.Errorf("encrypt %s: %w", label, err)
	}
	return kemOutput, ciphertext, nil
}

// Decrypt is DecryptWithLabel of RFC 9420 section 5.1.3.
func (s *Suite) Decrypt(private []byte, label string, context, kemOutput, ciphertext []byte) ([]byte, error) {
	k, err := s.kem.NewPrivateKey(private)
	if err != nil {
		return nil, ErrPrivateKey
	}
	recipient, err := hpke.NewRecipient(kemOutput, k, s.kdf, s.aead, encryptContext(label, context))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", label, ErrDecrypt)
	}
	plaintext, err := recipient.Open(nil, ciphertext)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", label, ErrDecrypt)
	}
	return plaintext, nil
}

func encryptContext(label string, context []byte) []byte {
	var w codec.Writer
	w.Opaque([]byte(labelPrefix + label))
	w.Opaque(context)
	return w.Bytes()
}

// ExternalInit makes a fresh init secret for the holders of public (RFC 9420
// section 8.3).
func (s *Suite) ExternalInit(public []byte) (kemOutput, initSecret []byte, err error) {
	pk, err := s.kem.NewPublicKey(public)
	if err != nil {
		return nil, nil, ErrPublicKey
	}
	kemOutput, sender, err := hpke.NewSender(pk, s.kdf, s.aead, nil)
	if err != nil {
		return nil, nil, fmt.Errorf("external init: %w", err)
	}
	initSecret, err = sender.Export(externalInitLabel, s.Nh)
	if err != nil {
		return nil, nil, fmt.Errorf("external init: %w", err)
	}
	return kemOutput, initSecret, nil
}

// ReceiveExternalInit recovers the init secret of ExternalInit.
func (s *Suite) ReceiveExternalInit(private, kemOutput []byte) ([]byte, error) {
	k, err := s.kem.NewPrivateKey(private)
	if err != nil {
		return nil, ErrPrivateKey
	}
	recipient, err := hpke.NewRecipient(kemOutput, k, s.kdf, s.aead, nil)
	if err != nil {
		return nil, fmt.Errorf("external init: %w", ErrDecrypt)
	}
	secret, err := recipient.Export(externalInitLabel, s.Nh)
	if err != nil {
		return nil, fmt.Errorf("external init: %w", err)
	}
	return secret, nil
}

// AEADSeal encrypts with the suite's AEAD.
func (s *Suite) AEADSeal(key, nonce, aad, plaintext []byte) ([]byte, error) {
	a, err := s.newAEAD(key, nonce)
	if err != nil {
		return nil, err
	}
	return a.Seal(nil, nonce, plaintext, aad), nil
}

// AEADOpen decrypts with the suite's AEAD into a new slice.
func (s *Suite) AEADOpen(key, nonce, aad, ciphertext []byte) ([]byte, error) {
	a, err := s.newAEAD(key, nonce)
	if err != nil {
		return nil, err
	}
	plaintext, err := a.Open(nil, nonce, ciphertext, aad)
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}

func (s *Suite) newAEAD(key, nonce []byte) (cipher.AEAD, error) {
	if len(key) != s.Nk || len(nonce) != s.Nn {
		return nil, fmt.Errorf("aead: key of %d and nonce of %d bytes, want %d and %d", len(key), len(nonce), s.Nk, s.Nn)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("aead: %w", err)
	}
	return cipher.NewGCM(block)
}
