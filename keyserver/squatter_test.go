package keyserver_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// squatted is a server that can prove accounts but does not insist, and one that
// mallory has claimed before its owner came.
func squatted(t *testing.T) (w *world, mail *carrier, mallory, bob *person) {
	mail = &carrier{}
	w = newWorld(t, keyserver.Options{Challengers: map[string]keyserver.Challenger{"email": mail}})
	mallory = w.register("mallory")
	mallory.claim(keyapi.Account{Platform: "email", ID: "bob@example.org"})
	bob = w.register("bob")
	bob.account = mallory.account
	return w, mail, mallory, bob
}

// takeBack proves the account.
func (p *person) takeBack(mail *carrier) error {
	c, err := p.challenge(p.account)
	if err != nil {
		return err
	}
	return p.prove(p.account, c, mail.token1(c.ID), c.Token2)
}

func (p *person) claims(a keyapi.Account) error {
	return second(p.w.c.AddAccount(p.w.t.Context(), p.token(), keyapi.AccountRequest{Account: a, IdentityKey: public(p.identity)}))
}

// TestFlaw20_ProvenOwnerWins: who claimed an account without a proof does not
// keep it from its owner, and keeps nothing of it; others see another identity.
func TestFlaw20_ProvenOwnerWins(t *testing.T) {
	w, mail, mallory, bob := squatted(t)
	alice := w.person("alice")
	pq := func(o *mls.KeyPackageOptions) {
		o.CipherSuite = mls.CipherSuite(xwing)
		o.Credential = ofSuite(t, mallory, o.Credential, xwing)
	}
	if _, err := mallory.upload(keyapi.KeyPackageUpload{
		KeyPackages: [][]byte{mallory.keyPackage(nil), mallory.keyPackage(pq)}, LastResort: mallory.keyPackage(lastResort),
	}); err != nil {
		t.Fatal(err)
	}
	dialog := newDialog(alice.account, bob.account)
	alice.mustCommit(dialog, dialog.create(alice.account, "hello", mallory.account))
	if len(mallory.inbox(0)) != 1 {
		t.Fatal("mallory is not who is written to")
	}

	wantCode(t, bob.claims(bob.account), keyapi.CodeVerificationRequired)
	if err := bob.takeBack(mail); err != nil {
		t.Fatalf("the owner, with a proof: %v", err)
	}
	r, err := w.c.Reachable(t.Context(), alice.token(), bob.account)
	if err != nil || !r.HasAccount || !bytes.Equal(r.IdentityKey, public(bob.identity)) || len(r.Rotations) > 0 || len(r.Suites) > 0 {
		t.Errorf("what others see: %+v, %v", r, err)
	}
	for _, cs := range []uint16{1, xwing} {
		_, err = w.c.ClaimKeyPackageOf(t.Context(), alice.token(), bob.account, cs)
		wantCode(t, err, keyapi.CodeNoKeyPackage)
	}
	if l, err := w.c.Accounts(t.Context(), bob.token()); err != nil || len(l.Accounts) != 1 || l.Accounts[0].ProofLevel != keyapi.ProofChallenge {
		t.Errorf("bob has %+v, %v", l, err)
	}
	if got := bob.inbox(0); len(got) != 0 {
		t.Errorf("bob is given %d messages for mallory", len(got))
	}
	// Nothing is left to mallory, nor comes back.
	if l, err := w.c.Accounts(t.Context(), mallory.token()); err != nil || len(l.Accounts) != 0 {
		t.Errorf("mallory has %+v, %v", l, err)
	}
	wantCode(t, second(w.c.Deliveries(t.Context(), mallory.token(), keyapi.DeliveryQuery{Account: bob.account})), keyapi.CodeForbidden)
	wantCode(t, second(mallory.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{mallory.keyPackage(nil)}})), keyapi.CodeForbidden)
	wantCode(t, second(mallory.tx(keyapi.Tx{Commit: newGroup().create(bob.account, "in bob's name")})), keyapi.CodeForbidden)
	wantCode(t, mallory.claims(bob.account), keyapi.CodeTaken)
	wantCode(t, mallory.takeBack(mail), keyapi.CodeTaken)

	// The dialog is where it was; either of its people may begin it anew.
	if i, err := w.c.Instance(t.Context(), bob.token(), dialog.conversation); err != nil || !bytes.Equal(i.Group, dialog.id) {
		t.Errorf("the dialog: %+v, %v", i, err)
	}
	if _, err = w.c.Instance(t.Context(), mallory.token(), dialog.conversation); err == nil {
		t.Error("mallory sees the dialog still")
	}
	again := newDialog(alice.account, bob.account)
	c := again.create(bob.account, "it is me", alice.account)
	c.Replaces = dialog.id
	bob.mustCommit(again, c)
	if got := alice.inbox(0); len(got) != 2 || !slices.Equal(got[1].Message, c.Welcome) || got[1].Seq != 2 {
		t.Errorf("alice is given %+v", got)
	}
	if got := bob.inbox(0); len(got) != 1 || got[0].Seq != 1 {
		t.Errorf("bob is given %+v", got)
	}
}

// A claim without a proof never takes an account away, nor does a proof where
// there is one already, or where none can be had.
func TestFlaw20_OnlyAProofWins(t *testing.T) {
	_, mail, mallory, bob := squatted(t)
	if err := mallory.takeBack(mail); err != nil { // it is hers indeed
		t.Fatal(err)
	}
	wantCode(t, bob.claims(bob.account), keyapi.CodeTaken)
	wantCode(t, bob.takeBack(mail), keyapi.CodeTaken)

	w, mail, mallory, bob := squatted(t)
	c, err := bob.challenge(bob.account)
	if err != nil {
		t.Fatal(err)
	}
	if err := mallory.takeBack(mail); err != nil { // proven while bob's proof is under way
		t.Fatal(err)
	}
	wantCode(t, bob.prove(bob.account, c, mail.token1(c.ID), c.Token2), keyapi.CodeTaken)
	wantCode(t, bob.prove(bob.account, c, random(16), c.Token2), keyapi.CodeForbidden)

	fax := keyapi.Account{Platform: "fax", ID: "123"}
	mallory.claim(fax)
	wantCode(t, bob.claims(fax), keyapi.CodeTaken)
	other := *mallory
	other.identity = newKey()
	wantCode(t, other.claims(fax), keyapi.CodeConflict)
	if l, err := w.c.Accounts(t.Context(), mallory.token()); err != nil || len(l.Accounts) != 2 {
		t.Errorf("mallory has %+v, %v", l, err)
	}
}

// TestFlaw20_LongPollOfTheLoserEnds: who waits for messages to the account is
// told at once that it is another's, and nothing that comes later.
func TestFlaw20_LongPollOfTheLoserEnds(t *testing.T) {
	w, mail, mallory, bob := squatted(t)
	polled := make(chan error, 1)
	early, cancel := context.WithTimeout(t.Context(), 40*time.Second) // before it would end by itself
	defer cancel()
	go func() {
		polled <- second(w.c.Deliveries(early, mallory.token(), keyapi.DeliveryQuery{Account: mallory.account, Wait: time.Minute}))
	}()
	w.awaitPolls(1)
	if err := bob.takeBack(mail); err != nil {
		t.Fatal(err)
	}
	wantCode(t, <-polled, keyapi.CodeForbidden)
}
