package keys

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
)

// Purpose names a key derived from ROOT or from an archive key. One purpose,
// one key.
type Purpose string

// Purposes.
const (
	PurposeState   Purpose = "cloudmls/1 state"   // all objects but keyring and epochs
	PurposeHead    Purpose = "cloudmls/1 head"    // the head
	PurposeKeyring Purpose = "cloudmls/1 keyring" // the keyring
	PurposeArchive Purpose = "cloudmls/1 archive" // archive records; from an archive key
	PurposeVault   Purpose = "cloudmls/1 vault"   // this device's records; from the vault key
	PurposeLocal   Purpose = "cloudmls/1 local names"
	PurposeRootID  Purpose = "cloudmls/1 root id"
	PurposeSignIn  Purpose = "cloudmls/1 sign-in parameters" // of KDFTag; from the keyring's secret
)

// NewSecret returns 32 random octets: a ROOT, an archive key, K_index.
func NewSecret() ([]byte, error) {
	b := make([]byte, keySize)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return b, nil
}

// Derive gives the key for a purpose.
func Derive(secret []byte, p Purpose) ([]byte, error) {
	if len(secret) != keySize {
		return nil, fmt.Errorf("derive key: secret of %d octets, want %d", len(secret), keySize)
	}
	k, err := hkdf.Expand(sha256.New, secret, string(p), keySize)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return k, nil
}
