package acmetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
)

// envelope is a flattened JWS (RFC 7515 section 7.2.2).
type envelope struct {
	Protected string `json:"protected"`
	Payload   string `json:"payload"`
	Signature string `json:"signature"`
}

type header struct {
	Alg   string `json:"alg"`
	Nonce string `json:"nonce"`
	URL   string `json:"url"`
	KID   string `json:"kid"`
	JWK   *jwk   `json:"jwk"`
}

// jwk is a P-256 key (RFC 7517).
type jwk struct {
	Crv string `json:"crv"`
	Kty string `json:"kty"`
	X   string `json:"x"`
	Y   string `json:"y"`
}

var b64 = base64.RawURLEncoding

func (k *jwk) key() (*ecdsa.PublicKey, error) {
	if k.Kty != "EC" || k.Crv != "P-256" {
		return nil, errors.New("only keys of P-256 are known")
	}
	x, err := b64.DecodeString(k.X)
	if err != nil {
		return nil, err
	}
	y, err := b64.DecodeString(k.Y)
	if err != nil {
		return nil, err
	}
	if len(x) != 32 || len(y) != 32 {
		return nil, errors.New("a coordinate of the key has another length than 32 octets")
	}
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
}

// thumbprint is that of RFC 7638.
func (k *jwk) thumbprint() string {
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":%q,"kty":%q,"x":%q,"y":%q}`, k.Crv, k.Kty, k.X, k.Y))
	return b64.EncodeToString(sum[:])
}

func (e *envelope) header() (h header, err error) {
	b, err := b64.DecodeString(e.Protected)
	if err == nil {
		err = json.Unmarshal(b, &h)
	}
	if err == nil && h.Alg != "ES256" {
		err = fmt.Errorf("alg %q", h.Alg)
	}
	return h, err
}

// open returns the payload if key made the signature.
func (e *envelope) open(key *ecdsa.PublicKey) ([]byte, error) {
	sig, err := b64.DecodeString(e.Signature)
	if err != nil || len(sig) != 64 {
		return nil, errors.New("the signature is none of ES256")
	}
	sum := sha256.Sum256([]byte(e.Protected + "." + e.Payload))
	if !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return nil, errors.New("the signature does not verify")
	}
	return b64.DecodeString(e.Payload)
}
