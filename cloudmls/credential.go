package cloudmls

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

const (
	// suite is the one that every client has.
	suite = mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519
	// suitePQ is the one with a post-quantum KEM.
	suitePQ = mls.MLS_128_XWING_AES128GCM_SHA256_Ed25519

	// keyPackageLifetime and clockSkew bound a KeyPackage and its leaf
	// certificate: from an hour ago, for clocks that run behind, to 90 days on.
	keyPackageLifetime = 90 * 24 * time.Hour
	clockSkew          = time.Hour
	// maxLifetime is the longest total lifetime of a KeyPackage that is taken.
	maxLifetime = 120 * 24 * time.Hour
)

// suites lists what this client has, preferred first.
func suites() []mls.CipherSuite { return []mls.CipherSuite{suitePQ, suite} }

// certify makes a fresh leaf signature key for the account and a credential in
// which the account's identity key vouches for it in one cipher suite. The
// credential shows how the key followed those that the account had before.
func (r *identityRecord) certify(self Account, cs mls.CipherSuite, life mls.Lifetime) (mls.SignaturePrivateKey, mls.Credential, error) {
	private, public, err := mls.GenerateSignatureKey(cs)
	if err != nil {
		return nil, mls.Credential{}, fmt.Errorf("make signature key: %w", err)
	}
	cert := keyapi.LeafCert{
		Platform: self.Platform, AccountID: self.ID, LeafKey: public, Suite: uint16(cs),
		NotBefore: life.NotBefore, NotAfter: life.NotAfter, Rotations: r.Rotations,
	}
	if err := cert.Sign(r.private()); err != nil {
		return nil, mls.Credential{}, fmt.Errorf("sign leaf certificate: %w", err)
	}
	b, err := cert.MarshalBinary()
	if err != nil {
		return nil, mls.Credential{}, fmt.Errorf("encode leaf certificate: %w", err)
	}
	return private, mls.NewBasicCredential(b), nil
}

func lifetime(now time.Time) mls.Lifetime {
	return mls.Lifetime{
		NotBefore: uint64(now.Add(-clockSkew).Unix()),
		NotAfter:  uint64(now.Add(keyPackageLifetime).Unix()),
	}
}

// leaf reads the certificate out of a credential and checks that it
// vouches for this signature key. Its time is not checked: what the delivery
// service accepted is never refused for its age alone.
func (m *certified) leaf(c mls.Credential, signatureKey []byte) (*keyapi.LeafCert, error) {
	if c.Type != mls.CredentialBasic {
		return nil, fmt.Errorf("credential type %d", c.Type)
	}
	cert, err := keyapi.ParseLeafCert(c.Identity)
	if err != nil {
		return nil, err
	}
	if err := m.verify(c.Identity, cert); err != nil {
		return nil, err
	}
	if !slices.Contains(suites(), mls.CipherSuite(cert.Suite)) {
		return nil, fmt.Errorf("leaf certificate is for cipher suite 0x%04x", cert.Suite)
	}
	if subtle.ConstantTimeCompare(cert.LeafKey, signatureKey) != 1 {
		return nil, errors.New("leaf certificate is for another signature key")
	}
	if a, err := canonical(cert.Account()); err != nil || a != cert.Account() {
		return nil, errors.New("leaf certificate names an account that is not in canonical form")
	}
	return cert, nil
}

// validate is the mls.CredentialValidator (RFC 9420 section 5.3.1).
// Whether the identity key is the pinned one is not a question of validity: a
// changed one is followed, warned about, and blocks sending.
func (m *certified) validate(c mls.CredentialCheck) error {
	cert, err := m.leaf(c.Credential, c.SignatureKey)
	if err != nil {
		return err
	}
	if cert.Suite != uint16(c.CipherSuite) {
		return fmt.Errorf("leaf certificate is for cipher suite 0x%04x", cert.Suite)
	}
	if c.Previous == nil {
		return nil
	}
	before, err := keyapi.ParseLeafCert(c.Previous.Identity)
	if err != nil {
		return fmt.Errorf("previous credential: %w", err)
	}
	if before.Account() != cert.Account() {
		return errors.New("a leaf cannot change its account")
	}
	if !bytes.Equal(before.IdentityKey, cert.IdentityKey) && !keyapi.RotationLeads(cert.Rotations, before.IdentityKey) {
		return errors.New("a leaf changes its identity key to one that the key before has signed, or not at all")
	}
	return nil
}

// roster lists the accounts of a group's members, sorted. An account with
// several leaves counts once, so the list is shorter than members then: such a
// group is refused where it is entered or followed, because the second leaf
// would be a reader whom no list of members shows.
func (m *certified) roster(members []mls.Member) ([]memberEntry, error) {
	list := make([]memberEntry, 0, len(members))
	for i := range members {
		one := &members[i]
		cert, err := m.leaf(one.Credential, one.SignatureKey)
		if err != nil {
			return nil, fmt.Errorf("leaf %d: %w", one.Leaf, err)
		}
		list = append(list, memberEntry{
			Platform: cert.Platform, ID: cert.AccountID, IdentityKey: cert.IdentityKey, Certified: int64(cert.NotBefore),
			rotations: cert.Rotations,
		})
	}
	return sortRoster(list), nil
}
