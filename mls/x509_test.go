package mls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// authority issues certificates for the tests.
type authority struct {
	key  ed25519.PrivateKey
	root *x509.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: testNow.Add(-time.Hour), NotAfter: testNow.Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{key: key, root: root}
}

// issue returns the chain for a public key that the standard library knows.
func (a *authority) issue(t testing.TB, name string, public any) Credential {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: testNow.Add(-time.Hour), NotAfter: testNow.Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.root, public, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return NewX509Credential([][]byte{der, a.root.Raw})
}

// validate is an Authentication Service: chains of this authority, whose name
// does not change.
func (a *authority) validate(c CredentialCheck) error {
	name := func(c Credential) (string, error) {
		if c.Type != CredentialX509 {
			return "", errors.New("not a certificate")
		}
		leaf, err := x509.ParseCertificate(c.Certificates[0])
		if err != nil {
			return "", err
		}
		roots := x509.NewCertPool()
		roots.AddCert(a.root)
		_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: testNow, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		return leaf.Subject.CommonName, err
	}
	now, err := name(c.Credential)
	if err != nil || c.Previous == nil {
		return err
	}
	if before, err := name(*c.Previous); err != nil || before != now {
		return fmt.Errorf("name changed from %q to %q: %v", before, now, err)
	}
	return nil
}

// certified is a self-made chain for an Ed25519 key.
func certified(t testing.TB, name string, public []byte) Credential {
	t.Helper()
	return newAuthority(t).issue(t, name, ed25519.PublicKey(public))
}

// A group whose members have certificates; the verifier is asked at each event
// of RFC 9420 section 5.3.1.
func TestX509Group(t *testing.T) {
	a := newAuthority(t)
	var asked []CredentialContext
	validate := func(c CredentialCheck) error {
		asked = append(asked, c.Context)
		return a.validate(c)
	}
	was := func(want ...CredentialContext) {
		t.Helper()
		if !slices.Equal(asked, want) {
			t.Errorf("asked at %v, want %v", asked, want)
		}
		asked = nil
	}
	key, bobKey, next := newKey(t), newKey(t), newKey(t)
	credential := func(name string, key SignaturePrivateKey) Credential {
		return a.issue(t, name, ed25519.PublicKey(must[[]byte](t)(key.PublicKey(testSuite))))
	}
	g := newGroup(t, "", func(o *GroupOptions) {
		o.Credential, o.SignatureKey, o.Validate = credential("alice", key), key, validate
	})
	was(CredentialInOwnLeaf)
	kp, secrets := newKeyPackage(t, "", func(o *KeyPackageOptions) { o.Credential, o.SignatureKey = credential("bob", bobKey), bobKey })
	if c := kp.Capabilities().Credentials; !slices.Contains(c, CredentialX509) {
		t.Errorf("capabilities list credentials %v", c)
	}
	p := must[*PendingCommit](t)(g.Commit(CommitOptions{Add: []*KeyPackage{kp}, Now: testNow}))
	was(CredentialInAdd)
	noError(t, g.Merge(p.Staged))
	bob := must[*Group](t)(JoinWelcome(wire(t, p.Welcome), JoinOptions{Secrets: secrets, Validate: validate}))
	was(CredentialInJoin, CredentialInJoin)

	// A new key needs a new certificate, in an Update and in a path.
	renewed := credential("bob", next)
	if _, err := bob.ProposeUpdate(UpdateOptions{NewSignatureKey: next}); err == nil || !strings.Contains(err.Error(), "another signature key") {
		t.Errorf("update with the old certificate: got %v", err)
	}
	if _, err := bob.Commit(CommitOptions{NewSignatureKey: next}); err == nil || !strings.Contains(err.Error(), "another signature key") {
		t.Errorf("commit with the old certificate: got %v", err)
	}
	stolen := credential("alice", next)
	if _, err := bob.Commit(CommitOptions{NewSignatureKey: next, NewCredential: &stolen}); err == nil || !strings.Contains(err.Error(), "name changed") {
		t.Errorf("commit with another name: got %v", err)
	}
	asked = nil
	update := must[*Message](t)(bob.ProposeUpdate(UpdateOptions{NewSignatureKey: next, NewCredential: &renewed}))
	was(CredentialInUpdate)
	must[Received](t)(g.Process(wire(t, update), testNow))
	was(CredentialInUpdate)
	third := newKey(t)
	again := credential("alice", third)
	p = must[*PendingCommit](t)(g.Commit(CommitOptions{NewSignatureKey: third, NewCredential: &again}))
	was(CredentialInUpdatePath)
	r := must[Received](t)(bob.Process(wire(t, p.Commit), testNow)).(*ReceivedCommit)
	was(CredentialInUpdatePath)
	noError(t, g.Merge(p.Staged))
	noError(t, bob.Merge(r.Staged))

	// From outside.
	bob.SetExternalCommits(true)
	g.SetExternalCommits(true)
	carolKey, serviceKey := newKey(t), newKey(t)
	j := must[*ExternalJoin](t)(JoinExternal(ExternalJoinOptions{
		GroupInfo: must[*Message](t)(g.GroupInfo()), Credential: credential("carol", carolKey), SignatureKey: carolKey, Validate: validate,
	}))
	was(CredentialInJoin, CredentialInJoin, CredentialInExternalJoin)
	must[Received](t)(bob.Process(wire(t, j.Commit), testNow))
	was(CredentialInExternalJoin)
	public := must[[]byte](t)(serviceKey.PublicKey(testSuite))
	for name, test := range map[string]struct {
		c    Credential
		want string
	}{
		"good":        {credential("service", serviceKey), ""},
		"another key": {credential("service", carolKey), "another signature key"},
		"no chain":    {NewX509Credential(nil), "has no certificate"},
	} {
		asked = nil
		e := ExternalSenders([]ExternalSender{{SignatureKey: public, Credential: test.c}})
		_, err := g.Commit(CommitOptions{Proposals: []Proposal{&GroupContextExtensions{Extensions: []Extension{e}}}})
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("external sender, %s: got %v", name, err)
		}
		if test.want == "" {
			was(CredentialInExternalSender)
		}
	}
}

// A certificate for one key does not go with a leaf of another, wherever the
// leaf comes from. It is the flaw of implementations that verify the chain
// only.
func TestElsewhere_X509CredentialIsBoundToTheSignatureKey(t *testing.T) {
	other := must[[]byte](t)(newKey(t).PublicKey(testSuite))
	stolen := certified(t, "victim", other)
	both := []CredentialType{CredentialBasic, CredentialX509}
	everybody := func(o *GroupOptions) {
		c := DefaultCapabilities(testSuite)
		c.Credentials = both
		o.Capabilities = &c
		o.Validate = func(CredentialCheck) error { return nil } // verifies nothing
	}
	w := newWorld(t, 1, 0, everybody)
	kp, secrets := newKeyPackage(t, "member 1", func(o *KeyPackageOptions) {
		c := DefaultCapabilities(testSuite)
		c.Credentials = both
		o.Capabilities = &c
	})
	p := w.commit(0, CommitOptions{Add: []*KeyPackage{kp}})
	w.join(p.Welcome, secrets).validate = w.members[0].validate
	const want = "another signature key"
	steal := func(l *leafNode) { l.credential, l.capabilities.Credentials = stolen, both }
	forged := changedKeyPackage(t, func(k *KeyPackage) { steal(&k.leaf) })
	if err := forged.Verify(testNow); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("verify: got %v", err)
	}
	w.refused(1, w.commitAttack(1, &attack{proposals: []Proposal{&Add{KeyPackage: forged}}}), want, nil)
	w.refused(1, w.commitAttack(1, &attack{leaf: func(_ *Group, l *leafNode) { steal(l) }}), want, nil)
	m := w.sendAs(1, content{proposal: func() Proposal {
		g := w.members[1]
		leaf := *g.tree.leaf(g.own)
		leaf.source, leaf.lifetime, leaf.parentHash = sourceUpdate, Lifetime{}, nil
		_, leaf.encryptionKey, _ = g.suite.GenerateKeyPair()
		steal(&leaf)
		noError(t, leaf.sign(g.suite, g.signature, g.context.groupID, g.own))
		return &Update{leaf: leaf}
	}()}, ContentProposal, nil)
	w.refused(1, m, want, nil)
	invite, joiner := w.invite(0, true, func(v *invitation) {
		v.changeLeaf(1, func(l *leafNode) {
			steal(l)
			noError(t, l.sign(v.suite, w.members[1].signature, v.info.context.groupID, 1))
		})
	})
	if _, err := JoinWelcome(invite, JoinOptions{Secrets: joiner, Validate: w.members[0].validate}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("join: got %v", err)
	}
	w.acceptExternal()
	if _, err := w.joinExternal("x", func(o *ExternalJoinOptions) { o.Credential, o.Validate = stolen, w.members[0].validate }); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("external join: got %v", err)
	}
}

// Each suite's keys are found in certificates, and only in its own form.
func TestX509KeysOfAllSuites(t *testing.T) {
	a := newAuthority(t)
	for _, cs := range CipherSuites() {
		t.Run(cs.String(), func(t *testing.T) {
			s, _ := cs.suite()
			public := must[[]byte](t)(newKeyOf(t, cs).PublicKey(cs))
			var c Credential
			switch algorithm, _ := keyAlgorithm(cs); {
			case algorithm.Equal(oidEd448):
				c = ed448Certificate(t, a, public)
			case algorithm.Equal(oidEd25519):
				c = a.issue(t, "x", ed25519.PublicKey(public))
			default:
				curve := map[int]elliptic.Curve{65: elliptic.P256(), 97: elliptic.P384(), 133: elliptic.P521()}[len(public)]
				c = a.issue(t, "x", must[*ecdsa.PublicKey](t)(ecdsa.ParseUncompressedPublicKey(curve, public)))
			}
			noError(t, c.bound(s, public))
			other := must[[]byte](t)(newKeyOf(t, cs).PublicKey(cs))
			if err := c.bound(s, other); err == nil {
				t.Error("another key is accepted")
			}
			for _, bad := range [][]byte{nil, c.Certificates[0][1:], c.Certificates[0][:len(c.Certificates[0])-1], append(bytes.Clone(c.Certificates[0]), 0)} {
				b := NewX509Credential([][]byte{bad})
				if err := b.bound(s, public); err == nil || !strings.Contains(err.Error(), "malformed") {
					t.Errorf("certificate of %d bytes: got %v", len(bad), err)
				}
			}
			for _, foreign := range CipherSuites() {
				want, curve := keyAlgorithm(foreign)
				mine, myCurve := keyAlgorithm(cs)
				f, _ := foreign.suite()
				if same := want.Equal(mine) && curve.Equal(myCurve); (c.bound(f, public) == nil) != same {
					t.Errorf("in suite %s: accepted is %v", foreign, !same)
				}
			}
		})
	}
}

// ed448Certificate replaces the key of a certificate, whose signature then
// means nothing.
func ed448Certificate(t *testing.T, a *authority, public []byte) Credential {
	t.Helper()
	leaf, err := x509.ParseCertificate(a.issue(t, "x", a.key.Public()).Certificates[0])
	noError(t, err)
	type spki struct {
		Algorithm pkix.AlgorithmIdentifier
		Key       asn1.BitString
	}
	key := must[[]byte](t)(asn1.Marshal(spki{pkix.AlgorithmIdentifier{Algorithm: oidEd448}, asn1.BitString{Bytes: public, BitLength: 8 * len(public)}}))
	var tbs, outer asn1.RawValue
	_, err = asn1.Unmarshal(leaf.RawTBSCertificate, &tbs)
	noError(t, err)
	_, err = asn1.Unmarshal(leaf.Raw, &outer)
	noError(t, err)
	changed := must[[]byte](t)(asn1.Marshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: bytes.Replace(tbs.Bytes, leaf.RawSubjectPublicKeyInfo, key, 1)}))
	whole := must[[]byte](t)(asn1.Marshal(asn1.RawValue{Tag: 16, IsCompound: true, Bytes: bytes.Replace(outer.Bytes, leaf.RawTBSCertificate, changed, 1)}))
	return NewX509Credential([][]byte{whole})
}
