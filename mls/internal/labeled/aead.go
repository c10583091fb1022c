package labeled

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// aeadNonceSize is Nn of all AEADs of the suites, in bytes.
const aeadNonceSize = 12

// aeadScheme is an entry of the registry "HPKE AEAD Identifiers" (RFC 9180
// section 7.3).
type aeadScheme struct {
	id      uint16
	keySize int
	create  func(key []byte) (cipher.AEAD, error)
}

var (
	aes128gcm              = aeadScheme{id: 0x0001, keySize: 16, create: newGCM}
	aes256gcm              = aeadScheme{id: 0x0002, keySize: 32, create: newGCM}
	chacha20poly1305Scheme = aeadScheme{id: 0x0003, keySize: 32, create: chacha20poly1305.New}
)

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// AEADSeal encrypts with the suite's AEAD.
func (s *Suite) AEADSeal(key, nonce, aad, plaintext []byte) ([]byte, error) {
	return s.aead.seal(key, nonce, aad, plaintext)
}

// AEADOpen decrypts with the suite's AEAD into a new slice.
func (s *Suite) AEADOpen(key, nonce, aad, ciphertext []byte) ([]byte, error) {
	return s.aead.open(key, nonce, aad, ciphertext)
}

func (a aeadScheme) seal(key, nonce, aad, plaintext []byte) ([]byte, error) {
	c, err := a.cipher(key, nonce)
	if err != nil {
		return nil, err
	}
	return c.Seal(nil, nonce, plaintext, aad), nil
}

// open compares the whole tag in constant time, as all of these AEADs do.
func (a aeadScheme) open(key, nonce, aad, ciphertext []byte) ([]byte, error) {
	c, err := a.cipher(key, nonce)
	if err != nil {
		return nil, err
	}
	plaintext, err := c.Open(nil, nonce, ciphertext, aad)
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}

func (a aeadScheme) cipher(key, nonce []byte) (cipher.AEAD, error) {
	if len(key) != a.keySize || len(nonce) != aeadNonceSize {
		return nil, fmt.Errorf("aead: key of %d and nonce of %d bytes, want %d and %d", len(key), len(nonce), a.keySize, aeadNonceSize)
	}
	c, err := a.create(key)
	if err != nil {
		return nil, fmt.Errorf("aead: %w", err)
	}
	return c, nil
}
