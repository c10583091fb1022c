package benchstate

import (
	"crypto/ed25519"
	"fmt"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// bare is a group of package mls by itself, in the post-quantum suite, with members whose certificates and
// whose binding are as large as those of the SDK's.
type bare struct {
	b     *testing.B
	group *mls.Group
	now   time.Time
	suite mls.CipherSuite
}

const bindingType mls.ExtensionType = 0xF0C1

func accept(mls.CredentialCheck) error { return nil }

// member makes a leaf's credential with a certificate of the SDK's size.
func (x *bare) member(a cloudmls.Account) (mls.SignaturePrivateKey, mls.Credential, mls.Lifetime) {
	x.b.Helper()
	key, public, err := mls.GenerateSignatureKey(x.suite)
	if err != nil {
		x.b.Fatal(err)
	}
	identityPublic, identity, err := ed25519.GenerateKey(nil)
	if err != nil {
		x.b.Fatal(err)
	}
	life := mls.Lifetime{NotBefore: uint64(x.now.Add(-time.Hour).Unix()), NotAfter: uint64(x.now.Add(90 * 24 * time.Hour).Unix())}
	cert := keyapi.LeafCert{
		Version: keyapi.LeafCertVersion, Algorithm: keyapi.LeafCertEd25519, Platform: a.Platform, AccountID: a.ID,
		IdentityKey: identityPublic, LeafKey: public, Suite: uint16(x.suite), NotBefore: life.NotBefore, NotAfter: life.NotAfter,
	}
	if err := cert.Sign(identity); err != nil {
		x.b.Fatal(err)
	}
	encoded, err := cert.MarshalBinary()
	if err != nil {
		x.b.Fatal(err)
	}
	return key, mls.NewBasicCredential(encoded), life
}

// newBare makes a group of a creator and n-1 others, in one Commit. The last of
// these joins and is returned too.
func newBare(b *testing.B, n int) (*bare, *mls.Group) {
	b.Helper()
	x := &bare{b: b, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), suite: mls.MLS_128_XWING_AES128GCM_SHA256_Ed25519}
	key, credential, life := x.member(account("alice"))
	capabilities := x.capabilities()
	binding := make([]byte, 1+1+16+2+len("https://keys.test.example")+5)
	g, err := mls.NewGroup(mls.GroupOptions{
		CipherSuite: x.suite, Credential: credential, SignatureKey: key, Lifetime: life, Capabilities: &capabilities,
		Validate: accept, Extensions: []mls.Extension{{Type: bindingType, Data: binding}},
	})
	if err != nil {
		b.Fatal(err)
	}
	x.group = g
	o := mls.CommitOptions{Now: x.now}
	var last *mls.KeyPackageSecrets
	for i := range n - 1 {
		kp, secrets := x.keyPackage(account(fmt.Sprintf("member %d", i)))
		o.Add, last = append(o.Add, kp), secrets
	}
	p := x.commit(o)
	other, err := mls.JoinWelcome(p.Welcome, mls.JoinOptions{Secrets: last, Validate: accept})
	if err != nil {
		b.Fatal(err)
	}
	return x, other
}

// capabilities are those of the SDK's leaves, which have two suites.
func (x *bare) capabilities() mls.Capabilities {
	c := mls.DefaultCapabilities(x.suite, bindingType)
	c.CipherSuites = append(c.CipherSuites, mls.MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519)
	return c
}

func (x *bare) keyPackage(a cloudmls.Account) (*mls.KeyPackage, *mls.KeyPackageSecrets) {
	x.b.Helper()
	key, credential, life := x.member(a)
	capabilities := x.capabilities()
	kp, secrets, err := mls.NewKeyPackage(mls.KeyPackageOptions{
		CipherSuite: x.suite, Credential: credential, SignatureKey: key, Lifetime: life, Capabilities: &capabilities,
	})
	if err != nil {
		x.b.Fatal(err)
	}
	return kp, secrets
}

func (x *bare) commit(o mls.CommitOptions) *mls.PendingCommit {
	x.b.Helper()
	p, err := x.group.Commit(o)
	if err != nil {
		x.b.Fatal(err)
	}
	if err := x.group.Merge(p.Staged); err != nil {
		x.b.Fatal(err)
	}
	return p
}

// epochChange is the size of everything that an epoch change has to move: the
// Commit, the Welcome, the group's state and the archive record after it.
func (x *bare) epochChange(o mls.CommitOptions) int {
	x.b.Helper()
	p := x.commit(o)
	n := x.size(p.Commit.MarshalBinary)
	if p.Welcome != nil {
		n += x.size(p.Welcome.MarshalBinary)
	}
	archive, err := x.group.Archive()
	if err != nil {
		x.b.Fatal(err)
	}
	return n + x.size(x.group.MarshalBinary) + x.size(archive.MarshalBinary)
}

func (x *bare) size(marshal func() ([]byte, error)) int {
	x.b.Helper()
	b, err := marshal()
	if err != nil {
		x.b.Fatal(err)
	}
	return len(b)
}
