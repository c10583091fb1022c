package keyserver_test

import (
	"slices"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

const xwing = uint16(mls.MLS_128_XWING_AES128GCM_SHA256_Ed25519)

// TestPoolsOfTwoSuites: each cipher suite has a pool and a last resort of its
// own; a claim names the suite, and who asks is told which there are.
func TestPoolsOfTwoSuites(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	pq := func(o *mls.KeyPackageOptions) {
		o.CipherSuite = mls.CipherSuite(xwing)
		o.Credential = ofSuite(t, bob, o.Credential, xwing)
	}
	pqLast := func(o *mls.KeyPackageOptions) { pq(o); o.LastResort = true }
	reach := func(want ...uint16) {
		t.Helper()
		r, err := w.c.Reachable(t.Context(), alice.token(), bob.account)
		if err != nil || !slices.Equal(r.Suites, want) {
			t.Errorf("suites %v, %v; want %v", r.Suites, err, want)
		}
	}
	reach()
	if _, err := bob.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{bob.keyPackage(nil)}}); err != nil {
		t.Fatal(err)
	}
	reach(1)
	count, err := bob.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{bob.keyPackage(pq), bob.keyPackage(pq)}, LastResort: bob.keyPackage(pqLast)})
	want := []keyapi.SuiteCount{{Suite: 1, Available: 1}, {Suite: xwing, Available: 2, LastResort: true}}
	if err != nil || !slices.Equal(count.Suites, want) || count.Available != 1 || count.LastResort {
		t.Fatalf("count %+v, %v", count, err)
	}
	reach(1, xwing)
	claim := func(suite uint16) *mls.KeyPackage {
		t.Helper()
		k, err := w.c.ClaimKeyPackageOf(t.Context(), alice.token(), bob.account, suite)
		if err != nil {
			t.Fatal(err)
		}
		kp, err := mls.ParseKeyPackage(k.KeyPackage)
		if err != nil {
			t.Fatal(err)
		}
		if uint16(kp.CipherSuite()) != suite || kp.IsLastResort() != k.LastResort {
			t.Errorf("asked for suite %d, got %d, last resort %v", suite, kp.CipherSuite(), k.LastResort)
		}
		return kp
	}
	for i := range 3 {
		if kp := claim(xwing); kp.IsLastResort() != (i == 2) {
			t.Errorf("claim %d: last resort %v", i, kp.IsLastResort())
		}
	}
	claim(1)
	_, err = alice.claimFrom(bob)
	wantCode(t, err, keyapi.CodeNoKeyPackage)
	_, err = w.c.ClaimKeyPackageOf(t.Context(), alice.token(), bob.account, 7)
	wantCode(t, err, keyapi.CodeInvalid)
	reach(xwing)
	next := newKey()
	if _, err := bob.rotate(bob.identity, next); err != nil {
		t.Fatal(err)
	}
	reach()
}

// TestThreat44_RotationEmptiesPoolsOfFormerSuites: a suite that the operator
// has struck from the configuration since has a pool still, and would be served
// from it again when the suite comes back.
func TestThreat44_RotationEmptiesPoolsOfFormerSuites(t *testing.T) {
	store, clock := newStore(t), newClock()
	with := func(suites ...mls.CipherSuite) *world {
		return newNode(t, keyserver.Options{Store: store, Now: clock.now, CipherSuites: suites}).at(t, clock)
	}
	both := with(suite, mls.CipherSuite(xwing))
	alice, bob := both.person("alice"), both.person("bob")
	pq := func(o *mls.KeyPackageOptions) {
		o.CipherSuite = mls.CipherSuite(xwing)
		o.Credential = ofSuite(t, bob, o.Credential, xwing)
	}
	upload := keyapi.KeyPackageUpload{
		KeyPackages: [][]byte{bob.keyPackage(nil), bob.keyPackage(pq)},
		LastResort:  bob.keyPackage(func(o *mls.KeyPackageOptions) { pq(o); o.LastResort = true }),
	}
	if count, err := bob.upload(upload); err != nil || len(count.Suites) != 2 || !count.Suites[1].LastResort {
		t.Fatalf("before: %+v, %v", count, err)
	}
	if _, err := bob.on(with(suite)).rotate(bob.identity, newKey()); err != nil {
		t.Fatal(err)
	}
	again := with(suite, mls.CipherSuite(xwing))
	count, err := again.c.KeyPackageCount(t.Context(), bob.token(), bob.account)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range count.Suites {
		if n.Available > 0 || n.LastResort {
			t.Errorf("of the key before: %+v", n)
		}
	}
	_, err = again.c.ClaimKeyPackageOf(t.Context(), alice.token(), bob.account, xwing)
	wantCode(t, err, keyapi.CodeNoKeyPackage)
}

// ofSuite is a credential of a person for another cipher suite.
func ofSuite(t *testing.T, p *person, of mls.Credential, cs uint16) mls.Credential {
	t.Helper()
	c, err := keyapi.ParseLeafCert(of.Identity)
	if err != nil {
		t.Fatal(err)
	}
	c.Suite = cs
	if err := c.Sign(p.identity); err != nil {
		t.Fatal(err)
	}
	b, err := c.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return mls.NewBasicCredential(b)
}
