package mls

import (
	"bytes"
	"encoding/asn1"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cryptobyteasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// bound checks that an X.509 credential's end entity has the signature key of
// the leaf or external sender that presents it (RFC 9420 section 5.3). Whether
// the chain is to be trusted, and who it names, the CredentialValidator says.
func (c *Credential) bound(s *labeled.Suite, signatureKey []byte) error {
	if c.Type != CredentialX509 {
		return nil
	}
	if len(c.Certificates) == 0 {
		return invalid("5.3", "X.509 credential has no certificate")
	}
	algorithm, curve, key, err := certificateKey(c.Certificates[0])
	if err != nil {
		return invalidBecause("5.3", "X.509 credential is malformed", err)
	}
	want, wantCurve := keyAlgorithm(CipherSuite(s.ID))
	if !algorithm.Equal(want) || !curve.Equal(wantCurve) || !bytes.Equal(key, signatureKey) {
		return invalid("5.3", "X.509 credential is for another signature key")
	}
	return nil
}

// Algorithms and curves of public keys (RFC 5480 section 2.1.1, RFC 8410
// section 3).
var (
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}
	oidEd448   = asn1.ObjectIdentifier{1, 3, 101, 113}
	oidECKey   = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP256    = asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	oidP384    = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidP521    = asn1.ObjectIdentifier{1, 3, 132, 0, 35}
)

// keyAlgorithm returns how a certificate names a suite's signature keys; the
// curve is nil for EdDSA.
func keyAlgorithm(cs CipherSuite) (algorithm, curve asn1.ObjectIdentifier) {
	switch cs {
	case MLS_128_DHKEMP256_AES128GCM_SHA256_P256:
		return oidECKey, oidP256
	case MLS_256_DHKEMP384_AES256GCM_SHA384_P384:
		return oidECKey, oidP384
	case MLS_256_DHKEMP521_AES256GCM_SHA512_P521:
		return oidECKey, oidP521
	case MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448, MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448:
		return oidEd448, nil
	default:
		return oidEd25519, nil
	}
}

var errCertificate = errors.New("certificate is malformed")

// certificateKey returns the subject's public key of a certificate (RFC 5280
// section 4.1), without verifying anything. Only what stands before the key is
// read; crypto/x509 does not know Ed448.
func certificateKey(der []byte) (algorithm, curve asn1.ObjectIdentifier, key []byte, err error) {
	input := cryptobyte.String(der)
	var certificate, tbs, info, identifier cryptobyte.String
	if !input.ReadASN1(&certificate, cryptobyteasn1.SEQUENCE) || !input.Empty() ||
		!certificate.ReadASN1(&tbs, cryptobyteasn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(cryptobyteasn1.Tag(0).Constructed().ContextSpecific()) || // version
		!tbs.SkipASN1(cryptobyteasn1.INTEGER) || // serialNumber
		!tbs.SkipASN1(cryptobyteasn1.SEQUENCE) || // signature
		!tbs.SkipASN1(cryptobyteasn1.SEQUENCE) || // issuer
		!tbs.SkipASN1(cryptobyteasn1.SEQUENCE) || // validity
		!tbs.SkipASN1(cryptobyteasn1.SEQUENCE) || // subject
		!tbs.ReadASN1(&info, cryptobyteasn1.SEQUENCE) ||
		!info.ReadASN1(&identifier, cryptobyteasn1.SEQUENCE) ||
		!identifier.ReadASN1ObjectIdentifier(&algorithm) {
		return nil, nil, nil, errCertificate
	}
	if !identifier.Empty() && algorithm.Equal(oidECKey) && !identifier.ReadASN1ObjectIdentifier(&curve) {
		return nil, nil, nil, errCertificate
	}
	if !info.ReadASN1BitStringAsBytes(&key) || !info.Empty() {
		return nil, nil, nil, errCertificate
	}
	return algorithm, curve, key, nil
}
