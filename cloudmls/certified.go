package cloudmls

import (
	"crypto/sha256"
	"sync"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// maxCertified is how many leaf certificates are remembered as verified.
const maxCertified = 1 << 13

// certified remembers which leaf certificates have proven to be signed, by the
// SHA-256 of their octets: identity key, leaf key, rotations, signature and all.
// Each member's is looked at several times in each epoch, and changes in few of
// them. Nothing else is remembered: that it is for this leaf key, this suite and
// this account is checked each time, and so is its time, where time counts. nil
// remembers nothing. It is safe for concurrent use.
type certified struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]struct{}
}

// verify checks the signatures of the certificate that has these octets.
func (m *certified) verify(octets []byte, cert *keyapi.LeafCert) error {
	if m == nil {
		return cert.Verify()
	}
	h := sha256.Sum256(octets)
	m.mu.Lock()
	_, ok := m.known[h]
	m.mu.Unlock()
	if ok {
		return nil
	}
	if err := cert.Verify(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil || len(m.known) >= maxCertified {
		m.known = map[[sha256.Size]byte]struct{}{}
	}
	m.known[h] = struct{}{}
	return nil
}

// leafCertificate, validateCredential and roster verify each time.
func leafCertificate(c mls.Credential, signatureKey []byte) (*keyapi.LeafCert, error) {
	return (*certified)(nil).leaf(c, signatureKey)
}

func validateCredential(c mls.CredentialCheck) error { return (*certified)(nil).validate(c) }

func roster(members []mls.Member) ([]memberEntry, error) { return (*certified)(nil).roster(members) }
