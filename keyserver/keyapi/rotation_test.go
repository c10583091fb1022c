package keyapi

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"
)

// chainOf makes n rotations and gives the key that they lead to.
func chainOf(t testing.TB, a Account, n int) ([]Rotation, ed25519.PrivateKey) {
	t.Helper()
	key := func(i int) ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i + 1)}, 32)) }
	var chain []Rotation
	for i := range n {
		r, err := NewRotation(a, key(i), key(i+1).Public().(ed25519.PublicKey), uint64(1700000000+i))
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, r)
	}
	return chain, key(n)
}

// TestThreat52_RotationChain: a chain leads from key to key by signatures, of
// one account, without gaps and without coming back.
func TestThreat52_RotationChain(t *testing.T) {
	a := Account{Platform: "email", ID: "alice@example.org"}
	good, last := chainOf(t, a, 3)
	public := last.Public().(ed25519.PublicKey)
	if err := VerifyRotations(a, good, public); err != nil {
		t.Fatal(err)
	}
	if err := VerifyRotations(a, nil, public); err != nil {
		t.Errorf("no rotations: %v", err)
	}
	for _, r := range good {
		if !RotationLeads(good, r.Previous) {
			t.Error("the chain does not lead from one of its keys")
		}
	}
	if RotationLeads(good, public) {
		t.Error("the chain leads from its end")
	}
	longer, over := chainOf(t, a, MaxRotations+1)
	back, err := NewRotation(a, last, ed25519.PublicKey(good[0].Previous), 1)
	if err != nil {
		t.Fatal(err)
	}
	altered := append([]Rotation{}, good...)
	altered[1].Time++
	for name, x := range map[string]struct {
		a     Account
		chain []Rotation
		key   []byte
	}{
		"another end":     {a, good, good[0].Previous},
		"another account": {Account{Platform: "email", ID: "bob@example.org"}, good, public},
		"a gap":           {a, []Rotation{good[0], good[2]}, public},
		"another order":   {a, []Rotation{good[1], good[0], good[2]}, public},
		"altered":         {a, altered, public},
		"in a circle":     {a, append(append([]Rotation{}, good...), back), good[0].Previous},
		"too long":        {a, longer, over.Public().(ed25519.PublicKey)},
		"no signature":    {a, []Rotation{{Previous: good[2].Previous, Next: public, Time: good[2].Time}}, public},
	} {
		if err := VerifyRotations(x.a, x.chain, x.key); !errors.Is(err, ErrRotation) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewRotation(a, last, public, 1); !errors.Is(err, ErrRotation) {
		t.Errorf("to the same key: %v", err)
	}
}

// TestLeafCertWithRotations: version 2 carries the chain, under the signature.
func TestLeafCertWithRotations(t *testing.T) {
	a := Account{Platform: "email", ID: "alice@example.org"}
	chain, last := chainOf(t, a, MaxRotations)
	c := &LeafCert{Platform: a.Platform, AccountID: a.ID, LeafKey: bytes.Repeat([]byte{9}, 32), Suite: 1, NotBefore: 1, NotAfter: 2, Rotations: chain}
	if err := c.Sign(last); err != nil {
		t.Fatal(err)
	}
	b, err := c.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseLeafCert(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Verify(); err != nil || got.Version != LeafCertVersionRotated || len(got.Rotations) != MaxRotations {
		t.Fatalf("version %d, %d rotations, %v", got.Version, len(got.Rotations), err)
	}
	if again, err := got.MarshalBinary(); err != nil || !bytes.Equal(again, b) {
		t.Errorf("another encoding: %v", err)
	}
	for i := range b {
		x := bytes.Clone(b)
		x[i] ^= 1
		if c, err := ParseLeafCert(x); err == nil && c.Verify() == nil {
			t.Errorf("octet %d altered, and it verifies", i)
		}
	}
	got.Rotations = got.Rotations[1:]
	if err := got.Verify(); !errors.Is(err, ErrLeafCert) {
		t.Errorf("a chain cut short: %v", err)
	}
	_, other := chainOf(t, a, 2)
	foreign := &LeafCert{Platform: a.Platform, AccountID: a.ID, LeafKey: c.LeafKey, Suite: 1, NotBefore: 1, NotAfter: 2, Rotations: chain[:1]}
	if err := foreign.Sign(other); err != nil {
		t.Fatal(err)
	}
	if err := foreign.Verify(); !errors.Is(err, ErrRotation) {
		t.Errorf("a chain that ends elsewhere: %v", err)
	}
	var none LeafCert = *c
	none.Rotations, none.Version = nil, LeafCertVersionRotated
	if err := none.Verify(); !errors.Is(err, ErrLeafCert) {
		t.Errorf("version 2 without rotations: %v", err)
	}
}
