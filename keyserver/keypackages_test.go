package keyserver_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
	"github.com/cloudmls/gateway/mls"
)

func lastResort(o *mls.KeyPackageOptions) { o.LastResort = true }

func (p *person) upload(r keyapi.KeyPackageUpload) (keyapi.KeyPackageCount, error) {
	return p.w.c.UploadKeyPackages(p.w.t.Context(), p.token(), p.account, r)
}

func (p *person) claimFrom(other *person) (keyapi.ClaimedKeyPackage, error) {
	return p.w.c.ClaimKeyPackage(p.w.t.Context(), p.token(), other.account)
}

// F7 and seed 0.6: each KeyPackage is handed out once; the last-resort one only
// when the pool is empty, and only if it was uploaded as such.
func TestFlaw07_KeyPackagesAreSingleUse(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	_, err := alice.claimFrom(bob)
	wantCode(t, err, keyapi.CodeNoKeyPackage)
	pool := [][]byte{bob.keyPackage(nil), bob.keyPackage(nil), bob.keyPackage(nil)}
	last := bob.keyPackage(lastResort)
	count, err := bob.upload(keyapi.KeyPackageUpload{KeyPackages: pool, LastResort: last})
	if err != nil || count.Available != 3 || !count.LastResort {
		t.Fatalf("upload: %+v, %v", count, err)
	}
	for i := range pool {
		got, err := alice.claimFrom(bob)
		if err != nil || got.LastResort || !bytes.Equal(got.KeyPackage, pool[i]) {
			t.Fatalf("claim %d: wrong KeyPackage or %v", i, err)
		}
	}
	for range 2 {
		got, err := alice.claimFrom(bob)
		if err != nil || !got.LastResort || !bytes.Equal(got.KeyPackage, last) {
			t.Fatalf("claim from an empty pool: not the last resort, or %v", err)
		}
	}
	if count, err = bob.upload(keyapi.KeyPackageUpload{KeyPackages: pool}); err != nil || count.Available != 0 {
		t.Fatalf("KeyPackages handed out before are back: %+v, %v", count, err)
	}
	if got, err := alice.claimFrom(bob); err != nil || !got.LastResort {
		t.Fatalf("a used KeyPackage was handed out again: %v", err)
	}
}

func TestSeedFlaw06_ConcurrentClaimsNeverShare(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	var pool [][]byte
	for range 20 {
		pool = append(pool, bob.keyPackage(nil))
	}
	if _, err := bob.upload(keyapi.KeyPackageUpload{KeyPackages: pool}); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := map[string]int{}
	empty := 0
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			got, err := alice.claimFrom(bob)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				empty++
				return
			}
			seen[string(got.KeyPackage)]++
		})
	}
	wg.Wait()
	if len(seen) != 20 || empty != 10 {
		t.Errorf("%d different KeyPackages and %d refusals, want 20 and 10", len(seen), empty)
	}
}

func TestFlaw07_LastResortOnlyWhenMarked(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	_, err := p.upload(keyapi.KeyPackageUpload{LastResort: p.keyPackage(nil)})
	wantCode(t, err, keyapi.CodeInvalid)
	_, err = p.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{p.keyPackage(lastResort)}})
	wantCode(t, err, keyapi.CodeInvalid)
}

func TestFlaw07_EndedKeyPackagesAreNotHandedOut(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	if _, err := bob.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{bob.keyPackage(nil)}, LastResort: bob.keyPackage(lastResort)}); err != nil {
		t.Fatal(err)
	}
	w.clock.advance(91 * 24 * time.Hour)
	s, err := alice.refresh(alice.session.RefreshToken, alice.device)
	if err != nil {
		t.Fatal(err)
	}
	alice.session = s
	_, err = alice.claimFrom(bob)
	wantCode(t, err, keyapi.CodeNoKeyPackage)
}

// F8: what is published for an account names this account, by its own identity
// key, and nothing else.
func TestFlaw08_CredentialMatchesAccount(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, mallory := w.person("alice"), w.person("mallory")
	now := w.clock.now()
	leafOf := func(o *mls.KeyPackageOptions) []byte {
		c, err := keyapi.ParseLeafCert(o.Credential.Identity)
		if err != nil {
			t.Fatal(err)
		}
		return c.LeafKey
	}
	recertify := func(change func(*keyapi.LeafCert)) func(*mls.KeyPackageOptions) {
		return func(o *mls.KeyPackageOptions) {
			c, err := keyapi.ParseLeafCert(o.Credential.Identity)
			if err != nil {
				t.Fatal(err)
			}
			change(c)
			if err := c.Sign(mallory.identity); err != nil {
				t.Fatal(err)
			}
			b, err := c.MarshalBinary()
			if err != nil {
				t.Fatal(err)
			}
			o.Credential = mls.NewBasicCredential(b)
		}
	}
	bad := map[string]func(*mls.KeyPackageOptions){
		"account of another":      recertify(func(c *keyapi.LeafCert) { c.AccountID = alice.account.ID }),
		"other platform":          recertify(func(c *keyapi.LeafCert) { c.Platform = "telegram" }),
		"upper-case id":           recertify(func(c *keyapi.LeafCert) { c.AccountID = "MALLORY@example.org" }),
		"other leaf key":          recertify(func(c *keyapi.LeafCert) { c.LeafKey = random(32) }),
		"other suite":             recertify(func(c *keyapi.LeafCert) { c.Suite = 3 }),
		"certificate has ended":   recertify(func(c *keyapi.LeafCert) { c.NotBefore, c.NotAfter = 1, 2 }),
		"certificate of tomorrow": recertify(func(c *keyapi.LeafCert) { c.NotBefore += 100 * 3600 }),
		"bare name as identity":   func(o *mls.KeyPackageOptions) { o.Credential = mls.NewBasicCredential([]byte(mallory.account.ID)) },
		"identity key of another": func(o *mls.KeyPackageOptions) {
			o.Credential = credential(t, alice.identity, mallory.account, leafOf(o), now)
		},
		"certificate not signed": func(o *mls.KeyPackageOptions) {
			b := bytes.Clone(o.Credential.Identity)
			b[len(b)-1] ^= 1
			o.Credential = mls.NewBasicCredential(b)
		},
		"lifetime of 200 days":     func(o *mls.KeyPackageOptions) { o.Lifetime.NotAfter += 110 * 24 * 3600 },
		"lifetime has ended":       func(o *mls.KeyPackageOptions) { o.Lifetime.NotBefore, o.Lifetime.NotAfter = 1, 1000 },
		"lifetime has not begun":   func(o *mls.KeyPackageOptions) { o.Lifetime.NotBefore += 7200 },
		"unchanged, must be taken": nil,
	}
	for name, change := range bad {
		_, err := mallory.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{mallory.keyPackage(change)}})
		if change == nil {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if p, ok := err.(*keyapi.Problem); !ok || p.Code != keyapi.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := mallory.keyPackage(nil)
	for i := range good {
		broken := bytes.Clone(good)
		broken[i] ^= 1
		if i%7 != 0 {
			continue
		}
		if _, err := mallory.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{broken}}); err == nil {
			t.Errorf("KeyPackage with octet %d flipped was taken", i)
		}
	}
	if _, err := mallory.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{append(good, 0)}}); err == nil {
		t.Error("KeyPackage with a trailing octet was taken")
	}
	_, err := w.c.UploadKeyPackages(t.Context(), mallory.token(), alice.account, keyapi.KeyPackageUpload{KeyPackages: [][]byte{good}})
	wantCode(t, err, keyapi.CodeForbidden)
}

func TestClaimsAreLimitedPerPairOfPeople(t *testing.T) {
	l := keyservertest.Unlimited()
	l.Claims = keyserver.Rate{Burst: 2, Every: time.Hour}
	w := newWorld(t, keyserver.Options{Limits: l})
	alice, bob, carol := w.person("alice"), w.person("bob"), w.person("carol")
	var pool [][]byte
	for range 5 {
		pool = append(pool, bob.keyPackage(nil))
	}
	if _, err := bob.upload(keyapi.KeyPackageUpload{KeyPackages: pool}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := alice.claimFrom(bob); err != nil {
			t.Fatal(err)
		}
	}
	_, err := alice.claimFrom(bob)
	wantCode(t, err, keyapi.CodeRateLimited)
	if _, err := carol.claimFrom(bob); err != nil {
		t.Errorf("another user: %v", err)
	}
}
