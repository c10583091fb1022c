package keyserver_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// carrier is a Challenger that keeps what it is given.
type carrier struct {
	mu   sync.Mutex
	sent map[keyserver.ChallengeID][]byte
	err  error
}

func (c *carrier) SendToken(_ context.Context, m keyserver.ChallengeMessage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent == nil {
		c.sent = map[keyserver.ChallengeID][]byte{}
	}
	c.sent[m.ID] = bytes.Clone(m.Token1)
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

func (p *person) challenge(a keyapi.Account) (keyapi.VerifyChallenge, error) {
	return p.w.c.Verify(p.w.t.Context(), p.token(), keyapi.VerifyRequest{Account: a, IdentityKey: public(p.identity)})
}

func (p *person) prove(a keyapi.Account, c keyapi.VerifyChallenge, token1, token2 []byte) error {
	input := keyapi.ProofSigningInput(p.w.Origin, a, public(p.identity), token1, token2)
	_, err := p.w.c.AddAccount(p.w.t.Context(), p.token(), keyapi.AccountRequest{
		Account: a, IdentityKey: public(p.identity),
		Proof: &keyapi.Proof{ID: c.ID, Signature: ed25519.Sign(p.identity, input)},
	})
	return err
}

// F20 and seed 0.7: where the operator says so, an account belongs to whoever
// proves it, not to whoever asks first.
func TestThreat53_Flaw20_SeedFlaw07_AccountsAreProven(t *testing.T) {
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
	if c, err = p.challenge(bob); err != nil { // single use, even where nothing is left to gain
		t.Fatal(err)
	}
	if err := p.prove(bob, c, mail.token1(c.ID), c.Token2); err != nil {
		t.Fatal(err)
	}
	wantCode(t, p.prove(bob, c, mail.token1(c.ID), c.Token2), keyapi.CodeForbidden)
}

func TestThreat53_SeedFlaw07_ChallengeEndsAfterFiveTries(t *testing.T) {
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

func TestThreat53_SeedFlaw07_ChallengeEndsAfterFifteenMinutes(t *testing.T) {
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
	p.session = s
	wantCode(t, p.prove(a, c, mail.token1(c.ID), c.Token2), keyapi.CodeForbidden)
}

func TestThreat53_SeedFlaw07_ChallengeIsBoundToUserAndKey(t *testing.T) {
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
	// Nor does the owner's own proof, replayed by another user; nor is the
	// challenge used up by it.
	replay := *thief
	replay.identity = victim.identity
	for range 6 {
		wantCode(t, replay.prove(a, c, mail.token1(c.ID), c.Token2), keyapi.CodeForbidden)
	}
	if err := victim.prove(a, c, mail.token1(c.ID), c.Token2); err != nil {
		t.Fatalf("the owner: %v", err)
	}
}

// A proof for one's own account and key does not claim another account, nor
// for another key: what is asked for is compared with what was challenged.
func TestSeedFlaw07_ProofClaimsWhatWasChallenged(t *testing.T) {
	w, mail := provingWorld(t)
	p := w.register("mallory")
	own, bob := keyapi.Account{Platform: "email", ID: "mallory@example.org"}, keyapi.Account{Platform: "email", ID: "bob@example.org"}
	c, err := p.challenge(own)
	if err != nil {
		t.Fatal(err)
	}
	good := ed25519.Sign(p.identity, keyapi.ProofSigningInput(w.Origin, own, public(p.identity), mail.token1(c.ID), c.Token2))
	claim := func(a keyapi.Account, identity []byte) error {
		_, err := w.c.AddAccount(t.Context(), p.token(), keyapi.AccountRequest{
			Account: a, IdentityKey: identity, Proof: &keyapi.Proof{ID: c.ID, Signature: good},
		})
		return err
	}
	wantCode(t, claim(bob, public(p.identity)), keyapi.CodeForbidden)
	wantCode(t, claim(own, public(newKey())), keyapi.CodeForbidden)
	if err := claim(own, public(p.identity)); err != nil {
		t.Errorf("what was challenged: %v", err)
	}
}

func TestSeedFlaw07_NoChallengerMeansNoAccount(t *testing.T) {
	w, _ := provingWorld(t)
	p, a := w.register("alice"), keyapi.Account{Platform: "fax", ID: "123"}
	_, err := p.challenge(a)
	wantCode(t, err, keyapi.CodeVerificationRequired)
	_, err = w.c.AddAccount(t.Context(), p.token(), keyapi.AccountRequest{Account: a, IdentityKey: public(p.identity)})
	wantCode(t, err, keyapi.CodeVerificationRequired)
	err = p.prove(a, keyapi.VerifyChallenge{ID: random(16)}, random(16), random(16))
	wantCode(t, err, keyapi.CodeForbidden)
}

func TestThreat57_SeedFlaw07_ChallengesAreNoCannon(t *testing.T) {
	l := keyservertest.Unlimited()
	l.Challenges = keyserver.Rate{Burst: 3, Every: 8 * time.Hour}
	mail := &carrier{}
	w := newWorld(t, keyserver.Options{
		Limits: l, RequireProof: []string{"email"}, Challengers: map[string]keyserver.Challenger{"email": mail},
	})
	a := keyapi.Account{Platform: "email", ID: "alice@example.org"}
	for i := range 3 {
		if _, err := w.register(fmt.Sprint("user", i)).challenge(a); err != nil {
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

// brokenCarrier panics: its pointer is nil.
type brokenCarrier struct{ carrier }
