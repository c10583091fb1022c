package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// TestCertificatesAreVerified: one that was verified before says nothing for one
// that differs in a single octet, for another leaf key, or for another suite; and
// what failed fails again.
func TestCertificatesAreVerified(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.forger()
	life := lifetime(w.clock.now())
	_, credential, err := certify(account("alice"), f.identity, suite, life)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := keyapi.ParseLeafCert(credential.Identity)
	if err != nil {
		t.Fatal(err)
	}
	m := &certified{}
	for range 2 {
		if _, err := m.leaf(credential, cert.LeafKey); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.known) != 1 {
		t.Fatalf("%d are remembered", len(m.known))
	}
	for i := range credential.Identity {
		bad := bytes.Clone(credential.Identity)
		bad[i] ^= 1
		for range 2 {
			if c, err := m.leaf(mls.NewBasicCredential(bad), cert.LeafKey); err == nil {
				t.Fatalf("with octet %d altered: %+v", i, c)
			}
		}
	}
	for range 2 {
		if _, err := m.leaf(credential, bytes.Repeat([]byte{1}, 32)); err == nil {
			t.Error("for another leaf key")
		}
		if err := m.validate(mls.CredentialCheck{Credential: credential, SignatureKey: cert.LeafKey, CipherSuite: suitePQ}); err == nil {
			t.Error("for another suite")
		}
		other, err := keyapi.ParseLeafCert(credential.Identity)
		if err != nil {
			t.Fatal(err)
		}
		other.IdentityKey = bytes.Repeat([]byte{2}, 32)
		b, err := other.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.leaf(mls.NewBasicCredential(b), cert.LeafKey); err == nil {
			t.Error("by another identity key")
		}
	}
	if len(m.known) != 1 {
		t.Errorf("%d are remembered: one that failed, too", len(m.known))
	}
}

// TestCertificatesAreBounded: whoever shows many certificates does not fill the memory.
func TestCertificatesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.forger()
	m := &certified{known: map[[32]byte]struct{}{}}
	for i := range maxCertified {
		m.known[[32]byte{byte(i), byte(i >> 8), 1}] = struct{}{}
	}
	var wait sync.WaitGroup
	for i := range 8 {
		wait.Go(func() {
			signature, credential, err := certify(account(fmt.Sprint(i)), f.identity, suite, lifetime(w.clock.now()))
			if err != nil {
				t.Error(err)
				return
			}
			public, err := signature.PublicKey(suite)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := m.leaf(credential, public); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if len(m.known) == 0 || len(m.known) > maxCertified {
		t.Errorf("%d are remembered", len(m.known))
	}
}

// BenchmarkFollowCommit follows one Commit of a group of 50, with certificates that
// are verified each time, and once.
func BenchmarkFollowCommit(b *testing.B) {
	now := time.Now()
	life := lifetime(now)
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	member := func(i int) (Account, mls.SignaturePrivateKey, mls.Credential) {
		a := account(fmt.Sprintf("member%02d", i))
		id := &identityRecord{Seed: bytes.Repeat([]byte{byte(i + 1)}, ed25519.SeedSize)}
		signature, credential, err := id.certify(a, suitePQ, life)
		must(err)
		return a, signature, credential
	}
	capabilities := mls.DefaultCapabilities(suitePQ, extensionBinding)
	id, err := groupid.New()
	must(err)
	bound := binding{kind: KindGroup, conversation: id, origin: "https://key.example"}
	_, signature, credential := member(0)
	g, err := mls.NewGroup(mls.GroupOptions{
		CipherSuite: suitePQ, Credential: credential, SignatureKey: signature, Lifetime: life, Capabilities: &capabilities,
		Validate: validateCredential, Extensions: []mls.Extension{{Type: extensionBinding, Data: bound.marshal()}},
	})
	must(err)
	o := mls.CommitOptions{Now: now}
	var secrets *mls.KeyPackageSecrets
	for i := range 49 {
		_, signature, credential := member(i + 1)
		kp, s, err := mls.NewKeyPackage(mls.KeyPackageOptions{
			CipherSuite: suitePQ, Credential: credential, SignatureKey: signature, Lifetime: life, Capabilities: &capabilities,
		})
		must(err)
		if o.Add = append(o.Add, kp); i == 0 {
			secrets = s
		}
	}
	pending, err := g.Commit(o)
	must(err)
	joined, err := mls.JoinWelcome(pending.Welcome, mls.JoinOptions{Secrets: secrets, Now: now, Validate: validateCredential})
	must(err)
	g = pending.Staged.Group()
	pending, err = g.Commit(mls.CommitOptions{Now: now})
	must(err)
	message, err := pending.Commit.MarshalBinary()
	must(err)
	self, _, _ := member(1)
	v := &view{self: self, source: func(state.Key) ([]byte, error) { return nil, state.ErrNotFound }, puts: map[state.Key][]byte{}}
	conv := &conversationRecord{Version: recordVersion, ID: id, Kind: KindGroup, JoinEpoch: uint64(joined.Epoch())}
	must(v.openEpoch(conv, joined, secrets.SignatureKey(), now))
	d := &keyapi.Delivery{Type: keyapi.DeliveryCommit, Conversation: id[:], Kind: KindGroup, Group: []byte(g.ID()), Epoch: uint64(g.Epoch()) + 1, Message: message}
	c := &Client{o: Options{Now: func() time.Time { return now }}}
	for _, how := range []struct {
		name  string
		certs *certified
	}{{"each time", nil}, {"once", &certified{}}} {
		b.Run("verified "+how.name, func(b *testing.B) {
			for b.Loop() {
				child, r := v.nested(), SyncResult{}
				child.certs = how.certs
				if err := c.processCommit(child, d, &r); err != nil || len(r.Changed) != 1 {
					b.Fatal(err)
				}
			}
		})
	}
}
