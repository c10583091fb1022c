package mls

import (
	"bytes"
	"fmt"
	"log/slog"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// secretsFormat is the version of the encoding of KeyPackageSecrets.
const secretsFormat = 1

// KeyPackageSecrets are a KeyPackage with its private keys: what joining with
// it takes. It is immutable, and prints as "[redacted]".
type KeyPackageSecrets struct {
	keyPackage        *KeyPackage
	initPrivate       []byte
	encryptionPrivate []byte
	signaturePrivate  SignaturePrivateKey
}

// ParseKeyPackageSecrets decodes what MarshalBinary returned and checks that
// the private keys belong to the KeyPackage.
func ParseKeyPackageSecrets(b []byte) (*KeyPackageSecrets, error) {
	if len(b) > MaxState {
		return nil, fmt.Errorf("parse key package secrets: %d bytes, at most %d are allowed", len(b), MaxState)
	}
	r := codec.NewReader(bytes.Clone(b))
	if v := r.Uint16(); r.Err() == nil && v != secretsFormat {
		return nil, fmt.Errorf("parse key package secrets: %w: %d", ErrFormat, v)
	}
	s := &KeyPackageSecrets{keyPackage: new(KeyPackage)}
	s.keyPackage.unmarshal(r)
	s.initPrivate = r.OpaqueMax(maxKey)
	s.encryptionPrivate = r.OpaqueMax(maxKey)
	s.signaturePrivate = r.OpaqueMax(maxKey)
	if err := r.Finish(); err != nil {
		return nil, fmt.Errorf("parse key package secrets: %w", err)
	}
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("parse key package secrets: %w", err)
	}
	return s, nil
}

// NewKeyPackageSecrets joins a KeyPackage with its private keys, which must
// belong to it. It is for KeyPackages that were made elsewhere.
func NewKeyPackageSecrets(kp *KeyPackage, initPrivate, encryptionPrivate []byte, signature SignaturePrivateKey) (*KeyPackageSecrets, error) {
	s := &KeyPackageSecrets{
		keyPackage:        kp,
		initPrivate:       bytes.Clone(initPrivate),
		encryptionPrivate: bytes.Clone(encryptionPrivate),
		signaturePrivate:  bytes.Clone(signature),
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

// check makes sure that the private keys belong to the public ones.
func (k *KeyPackageSecrets) check() error {
	s, err := k.keyPackage.suite.suite()
	if err != nil {
		return err
	}
	initKey, err := s.PublicKey(k.initPrivate)
	if err != nil || !bytes.Equal(initKey, k.keyPackage.initKey) {
		return fmt.Errorf("init private key does not belong to the key package")
	}
	encryptionKey, err := s.PublicKey(k.encryptionPrivate)
	if err != nil || !bytes.Equal(encryptionKey, k.keyPackage.leaf.encryptionKey) {
		return fmt.Errorf("encryption private key does not belong to the key package")
	}
	signatureKey, err := s.SignaturePublicKey(k.signaturePrivate)
	if err != nil || !bytes.Equal(signatureKey, k.keyPackage.leaf.signatureKey) {
		return fmt.Errorf("signature private key does not belong to the key package")
	}
	return nil
}

// MarshalBinary returns the secrets, unprotected. It never fails.
func (k *KeyPackageSecrets) MarshalBinary() ([]byte, error) {
	var w codec.Writer
	w.Uint16(secretsFormat)
	k.keyPackage.marshal(&w)
	w.Opaque(k.initPrivate)
	w.Opaque(k.encryptionPrivate)
	w.Opaque(k.signaturePrivate)
	return w.Bytes(), nil
}

// Ref returns the reference of the KeyPackage.
func (k *KeyPackageSecrets) Ref() KeyPackageRef { return k.keyPackage.Ref() }

// KeyPackage returns the public part.
func (k *KeyPackageSecrets) KeyPackage() *KeyPackage { return k.keyPackage }

// SignatureKey returns a copy of the signature key, which the joined group
// needs again whenever it is read back from storage.
func (k *KeyPackageSecrets) SignatureKey() SignaturePrivateKey {
	return bytes.Clone(k.signaturePrivate)
}

// String returns "[redacted]".
func (*KeyPackageSecrets) String() string { return "[redacted]" }

// Format writes "[redacted]" whatever the verb.
func (*KeyPackageSecrets) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[redacted]")) }

// LogValue returns "[redacted]".
func (*KeyPackageSecrets) LogValue() slog.Value { return slog.StringValue("[redacted]") }
