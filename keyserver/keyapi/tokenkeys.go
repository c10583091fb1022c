package keyapi

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
)

// TokenKeys are the keys of access tokens, as a JWK Set (RFC 7517) with the
// name of who signs with them.
type TokenKeys struct {
	Issuer string     `json:"issuer"` // origin of the server with the auth role
	Keys   []TokenKey `json:"keys"`
}

// TokenKey is an Ed25519 key as a JWK (RFC 8037 section 2).
type TokenKey struct {
	Type      string `json:"kty"` // "OKP"
	Curve     string `json:"crv"` // "Ed25519"
	Algorithm string `json:"alg"` // "EdDSA"
	Use       string `json:"use"` // "sig"
	KeyID     string `json:"kid"`
	X         string `json:"x"` // base64url without padding
}

// NewTokenKey is the published form of a key.
func NewTokenKey(id string, k ed25519.PublicKey) TokenKey {
	return TokenKey{Type: "OKP", Curve: "Ed25519", Algorithm: "EdDSA", Use: "sig", KeyID: id, X: base64.RawURLEncoding.EncodeToString(k)}
}

// Public reads the key, which must be of the only kind that is used.
func (k TokenKey) Public() (ed25519.PublicKey, error) {
	if k.Type != "OKP" || k.Curve != "Ed25519" || k.Algorithm != "EdDSA" || k.Use != "sig" || k.KeyID == "" {
		return nil, errors.New("token key: not an Ed25519 key for signatures")
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(k.X)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, errors.New("token key: x is not 32 octets in base64url")
	}
	return b, nil
}

// SessionState is what a node without sessions of its own asks the server with
// the auth role about the token that it was shown.
type SessionState struct {
	UserID     []byte `json:"user_id"`
	SessionID  []byte `json:"session_id"`
	Recovering bool   `json:"recovering"` // opened with the recovery code: it may read objects and nothing else
}
