package cloudmls

import (
	"bytes"
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// TestThreat52_LeafFollowsItsIdentityKey: a leaf shows another identity key only
// with rotations that go through the one before, and never an earlier one again.
func TestThreat52_LeafFollowsItsIdentityKey(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	old := &identityRecord{Seed: bytes.Repeat([]byte{1}, 32)}
	next := &identityRecord{Seed: bytes.Repeat([]byte{2}, 32)}
	evil := &identityRecord{Seed: bytes.Repeat([]byte{3}, 32)}
	r, err := keyapi.NewRotation(account("alice"), old.private(), ed25519.PublicKey(next.public()), 1)
	if err != nil {
		t.Fatal(err)
	}
	next.Rotations = []keyapi.Rotation{r}
	for name, x := range map[string]struct {
		from, to *identityRecord
		suite    mls.CipherSuite
		ok       bool
	}{
		"the same key":      {old, old, suite, true},
		"signed by it":      {old, next, suite, true},
		"not signed by it":  {old, evil, suite, false},
		"back":              {next, old, suite, false},
		"for another suite": {old, old, suitePQ, false},
	} {
		_, before, err := x.from.certify(account("alice"), suite, lifetime(now))
		if err != nil {
			t.Fatal(err)
		}
		private, after, err := x.to.certify(account("alice"), x.suite, lifetime(now))
		if err != nil {
			t.Fatal(err)
		}
		err = validateCredential(mls.CredentialCheck{
			Credential: after, SignatureKey: ed25519.NewKeyFromSeed(private[:32]).Public().(ed25519.PublicKey),
			CipherSuite: suite, Previous: &before, Context: mls.CredentialInUpdatePath,
		})
		if (err == nil) != x.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
