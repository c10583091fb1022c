package cloudmls

import (
	"crypto/ed25519"

	"github.com/cloudmls/gateway/mls"
)

// certify makes the credential of somebody who has an identity key and says that
// it is the account's.
func certify(claims Account, identity ed25519.PrivateKey, cs mls.CipherSuite, life mls.Lifetime) (mls.SignaturePrivateKey, mls.Credential, error) {
	id := &identityRecord{Seed: identity.Seed()}
	return id.certify(claims, cs, life)
}
