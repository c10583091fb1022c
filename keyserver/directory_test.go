package keyserver_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
	"github.com/cloudmls/gateway/mls"
)

func lastResort(o *mls.KeyPackageOptions) { o.LastResort = true }

func (p *person) upload(r keyapi.KeyPackageUpload) (*keyapi.KeyPackageCount, error) {
	return p.w.c.UploadKeyPackages(p.w.t.Context(), p.token(), p.account, r)
}

func (p *person) claimFrom(other *person) (*keyapi.ClaimedKeyPackage, error) {
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

func TestFlaw07_ConcurrentClaimsNeverShare(t *testing.T) {
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
	alice.session = *s
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

// carrier is a Challenger that keeps what it is given.
type carrier struct {
	mu   sync.Mutex
	sent map[keyserver.ChallengeID][]byte
	err  error
}

func (c *carrier) SendToken(_ context.Context, _ keyapi.Account, id keyserver.ChallengeID, token1 []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent == nil {
		c.sent = map[keyserver.ChallengeID][]byte{}
	}
	c.sent[id] = bytes.Clone(token1)
	return c.err
}

func (c *carrier) token1(id []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent[keyserver.ChallengeID(id)]
}

func provingWorld(t *testing.T) (*world, *carrier) {
	mail := &carrier{}
	return newWorld(t, keyserver.Options{
		RequireProof: []string{"email", "fax"}, Challengers: map[string]keyserver.Challenger{"email": mail},
	}), mail
}

func (p *person) challenge(a keyapi.Account) (*keyapi.VerifyChallenge, error) {
	return p.w.c.Verify(p.w.t.Context(), p.token(), keyapi.VerifyRequest{Account: a, IdentityKey: public(p.identity)})
}

func (p *person) prove(a keyapi.Account, c *keyapi.VerifyChallenge, token1, token2 []byte) error {
	input := keyapi.ProofSigningInput(p.w.Origin, a, public(p.identity), token1, token2)
	_, err := p.w.c.AddAccount(p.w.t.Context(), p.token(), keyapi.AccountRequest{
		Account: a, IdentityKey: public(p.identity),
		Proof: &keyapi.Proof{ID: c.ID, Signature: ed25519.Sign(p.identity, input)},
	})
	return err
}

// F20 and seed 0.7: where the operator says so, an account belongs to whoever
// proves it, not to whoever asks first.
func TestFlaw20_SeedFlaw07_AccountsAreProven(t *testing.T) {
	w, mail := provingWorld(t)
	p, bob := w.register("alice"), keyapi.Account{Platform: "email", ID: "bob@example.org"}
	_, err := w.c.AddAccount(t.Context(), p.token(), keyapi.AccountRequest{Account: bob, IdentityKey: public(p.identity)})
	wantCode(t, err, keyapi.CodeVerificationRequired)

	c, err := p.challenge(bob)
	if err != nil {
		t.Fatal(err)
	}
	token1 := mail.token1(c.ID)
	wantCode(t, p.prove(bob, c, random(16), c.Token2), keyapi.CodeForbidden)
	wantCode(t, p.prove(bob, c, token1, random(16)), keyapi.CodeForbidden)
	wantCode(t, p.prove(bob, c, c.Token2, token1), keyapi.CodeForbidden)
	wantCode(t, p.prove(keyapi.Account{Platform: "email", ID: "eve@example.org"}, c, token1, c.Token2), keyapi.CodeForbidden)
	if err := p.prove(bob, c, token1, c.Token2); err != nil {
		t.Fatalf("good proof at the fifth try: %v", err)
	}
	list, err := w.c.Accounts(t.Context(), p.token())
	if err != nil || len(list.Accounts) != 1 || list.Accounts[0].ProofLevel != 1 {
		t.Fatalf("accounts: %+v, %v", list, err)
	}
	wantCode(t, p.prove(bob, c, token1, c.Token2), keyapi.CodeForbidden) // single use
}

func TestSeedFlaw07_ChallengeEndsAfterFiveTries(t *testing.T) {
	w, mail := provingWorld(t)
	p, a := w.register("alice"), keyapi.Account{Platform: "email", ID: "alice@example.org"}
	c, err := p.challenge(a)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		wantCode(t, p.prove(a, c, random(16), c.Token2), keyapi.CodeForbidden)
	}
	wantCode(t, p.prove(a, c, mail.token1(c.ID), c.Token2), keyapi.CodeForbidden)
}

func TestSeedFlaw07_ChallengeEndsAfterFifteenMinutes(t *testing.T) {
	w, mail := provingWorld(t)
	p, a := w.register("alice"), keyapi.Account{Platform: "email", ID: "alice@example.org"}
	c, err := p.challenge(a)
	if err != nil {
		t.Fatal(err)
	}
	w.clock.advance(15*time.Minute + time.Second)
	s, err := p.refresh(p.session.RefreshToken, p.device)
	if err != nil {
		t.Fatal(err)
	}
	p.session = *s
	wantCode(t, p.prove(a, c, mail.token1(c.ID), c.Token2), keyapi.CodeForbidden)
}

func TestSeedFlaw07_ChallengeIsBoundToUserAndKey(t *testing.T) {
	w, mail := provingWorld(t)
	victim, thief := w.register("alice"), w.register("mallory")
	a := keyapi.Account{Platform: "email", ID: "alice@example.org"}
	c, err := victim.challenge(a)
	if err != nil {
		t.Fatal(err)
	}
	// A relayed token binds neither the thief's user nor the thief's key.
	wantCode(t, thief.prove(a, c, mail.token1(c.ID), c.Token2), keyapi.CodeForbidden)
	other := *victim
	other.identity = thief.identity
	wantCode(t, other.prove(a, c, mail.token1(c.ID), c.Token2), keyapi.CodeForbidden)
	if err := victim.prove(a, c, mail.token1(c.ID), c.Token2); err != nil {
		t.Fatalf("the owner: %v", err)
	}
}

func TestSeedFlaw07_NoChallengerMeansNoAccount(t *testing.T) {
	w, _ := provingWorld(t)
	p, a := w.register("alice"), keyapi.Account{Platform: "fax", ID: "123"}
	_, err := p.challenge(a)
	wantCode(t, err, keyapi.CodeVerificationRequired)
	_, err = w.c.AddAccount(t.Context(), p.token(), keyapi.AccountRequest{Account: a, IdentityKey: public(p.identity)})
	wantCode(t, err, keyapi.CodeVerificationRequired)
	err = p.prove(a, &keyapi.VerifyChallenge{ID: random(16)}, random(16), random(16))
	wantCode(t, err, keyapi.CodeForbidden)
}

func TestSeedFlaw07_ChallengesAreNoCannon(t *testing.T) {
	l := keyservertest.Unlimited()
	l.Challenges = keyserver.Rate{Burst: 3, Every: 8 * time.Hour}
	mail := &carrier{}
	w := newWorld(t, keyserver.Options{
		Limits: l, RequireProof: []string{"email"}, Challengers: map[string]keyserver.Challenger{"email": mail},
	})
	a := keyapi.Account{Platform: "email", ID: "alice@example.org"}
	for range 3 {
		if _, err := w.register(string(random(4)[0]%26+'a') + "x" + time.Now().Format("150405.000000000")).challenge(a); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.register("mallory").challenge(a)
	wantCode(t, err, keyapi.CodeRateLimited)
	if len(mail.sent) != 3 {
		t.Errorf("%d messages sent, want 3", len(mail.sent))
	}
}

func TestAccountsHaveOneOwnerAndOneKey(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	_, err := w.c.AddAccount(t.Context(), bob.token(), keyapi.AccountRequest{Account: alice.account, IdentityKey: public(bob.identity)})
	wantCode(t, err, keyapi.CodeTaken)
	alice.claim(alice.account) // again: changes nothing
	_, err = w.c.AddAccount(t.Context(), alice.token(), keyapi.AccountRequest{Account: alice.account, IdentityKey: random(32)})
	wantCode(t, err, keyapi.CodeConflict)
	list, err := w.c.Accounts(t.Context(), alice.token())
	if err != nil || len(list.Accounts) != 1 || !bytes.Equal(list.Accounts[0].IdentityKey, public(alice.identity)) {
		t.Errorf("accounts: %+v, %v", list, err)
	}
}

// F31: ids are octets. They are not split at "/", not folded, not unescaped
// twice, and platforms do not share them.
func TestFlaw31_IdsArePerPlatformAndVerbatim(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	ids := []keyapi.Account{
		{Platform: "email", ID: "a/b@example.org"}, {Platform: "email", ID: "a%2Fb@example.org"}, {Platform: "email", ID: "a"},
		{Platform: "email", ID: "a/b"}, {Platform: "email", ID: "a/claim"}, {Platform: "email", ID: "A/B"}, {Platform: "email", ID: "."},
		{Platform: "email", ID: ".."}, {Platform: "email", ID: "../x"}, {Platform: "email", ID: "a b+c?d#e&f"}, {Platform: "email", ID: "100%25"},
		{Platform: "email", ID: "100%"}, {Platform: "email", ID: "/"}, {Platform: "email", ID: "//"}, {Platform: "email", ID: "grüße 日本 😀"},
		{Platform: "emai", ID: "la/b"}, {Platform: "telegram", ID: "a/b"}, {Platform: "telegram", ID: "A/B"}, {Platform: "email", ID: "a/b\x01"},
	}
	asker := w.person("asker")
	var people []*person
	for i, a := range ids {
		p := w.register("user" + string(rune('a'+i)))
		people = append(people, p)
		p.account = a
		r, err := w.c.Reachable(t.Context(), asker.token(), a)
		if err != nil || r.HasAccount {
			t.Fatalf("%q is there before it was claimed: %+v, %v", a, r, err)
		}
		p.claim(a)
		if _, err := p.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{p.keyPackage(nil)}}); err != nil {
			t.Fatalf("%q: upload: %v", a, err)
		}
	}
	g := newGroup()
	asker.mustCommit(g, g.create(asker.account, "first", ids...))
	for i, a := range ids {
		p := people[i]
		r, err := w.c.Reachable(t.Context(), asker.token(), a)
		if err != nil || !r.HasAccount || !bytes.Equal(r.IdentityKey, public(p.identity)) {
			t.Errorf("%q: reachable: %v", a, err)
		}
		kp, err := asker.claimFrom(p)
		if err != nil {
			t.Errorf("%q: claim: %v", a, err)
			continue
		}
		parsed, err := mls.ParseKeyPackage(kp.KeyPackage)
		if err != nil {
			t.Fatal(err)
		}
		c, err := keyapi.ParseLeafCert(parsed.Credential().Identity)
		if err != nil || c.Account() != a {
			t.Errorf("%q: KeyPackage of %v: %v", a, c, err)
		}
		_, err = asker.claimFrom(p)
		wantCode(t, err, keyapi.CodeNoKeyPackage)
		wantMessages(t, p.inbox(0), "welcome of first")
		if err := w.c.Ack(t.Context(), p.token(), a, 1); err != nil {
			t.Errorf("%q: acknowledge: %v", a, err)
		}
	}
	for _, a := range []keyapi.Account{{Platform: "Email", ID: "a"}, {Platform: "", ID: "a"}, {Platform: "email", ID: ""}, {Platform: "email", ID: "a\x00b"}} {
		if _, err := w.c.AddAccount(t.Context(), asker.token(), keyapi.AccountRequest{Account: a, IdentityKey: random(32)}); err == nil {
			t.Errorf("%q was taken", a)
		}
	}
}

// brokenCarrier panics: its pointer is nil.
type brokenCarrier struct{ carrier }
