package keyserver_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

func messengerWorld(t *testing.T, l keyserver.Limits) (*world, *keyservertest.Messenger) {
	m := &keyservertest.Messenger{}
	return newWorld(t, keyserver.Options{
		Limits: l, RequireProof: []string{"chat"}, Challengers: map[string]keyserver.Challenger{"chat": m},
	}), m
}

// A platform's message and the answer of the API make a proof together, by the
// token for programs and by the code that a person types; the level is stored.
func TestThreat53_ProofByTokenOrTypedCode(t *testing.T) {
	w, chat := messengerWorld(t, keyserver.Limits{})
	for _, name := range []string{"token", "code"} {
		p, a := w.register(name), keyapi.Account{Platform: "chat", ID: "id of " + name}
		c, err := p.challenge(a)
		if err != nil {
			t.Fatal(err)
		}
		m := chat.Inbox(a)[0]
		first := m.Token1
		if name == "code" {
			if first, err = keyapi.ProofCode(" " + strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(m.Code, "0", "o"), "1", "l"))); err != nil {
				t.Fatal(err)
			}
			wrong := append([]byte(nil), first...)
			wrong[7] ^= 1
			wantCode(t, p.prove(a, c, wrong, c.Token2), keyapi.CodeForbidden)
		}
		// Either half alone is nothing.
		wantCode(t, p.prove(a, c, first, nil), keyapi.CodeForbidden)
		wantCode(t, p.prove(a, c, nil, c.Token2), keyapi.CodeForbidden)
		if err := p.prove(a, c, first, c.Token2); err != nil {
			t.Fatalf("by %s: %v", name, err)
		}
		list, err := w.c.Accounts(t.Context(), p.token())
		if err != nil || len(list.Accounts) != 1 || list.Accounts[0].ProofLevel != keyapi.ProofChallenge {
			t.Errorf("%+v, %v", list, err)
		}
		// It serves once, for another key least of all.
		other := *p
		other.identity = newKey()
		wantCode(t, other.prove(a, c, first, c.Token2), keyapi.CodeForbidden)
		wantCode(t, p.prove(a, c, first, c.Token2), keyapi.CodeForbidden)
	}
}

// The proof is bound to this server: a signature for another one is worthless,
// so nobody can relay a challenge.
func TestThreat53_ProofIsForThisServer(t *testing.T) {
	w, chat := messengerWorld(t, keyserver.Limits{})
	p, a := w.register("alice"), keyapi.Account{Platform: "chat", ID: "alice"}
	c, err := p.challenge(a)
	if err != nil {
		t.Fatal(err)
	}
	input := keyapi.ProofSigningInput("https://other.example", a, public(p.identity), chat.Inbox(a)[0].Token1, c.Token2)
	_, err = w.c.AddAccount(t.Context(), p.token(), keyapi.AccountRequest{
		Account: a, IdentityKey: public(p.identity), Proof: &keyapi.Proof{ID: c.ID, Signature: ed25519.Sign(p.identity, input)},
	})
	wantCode(t, err, keyapi.CodeForbidden)
}

// What is sent holds nothing that the caller chose, besides the account.
func TestThreat57_MessagesHoldNoTextOfTheCaller(t *testing.T) {
	w, chat := messengerWorld(t, keyserver.Limits{})
	p, a := w.register("buy-my-pills"), keyapi.Account{Platform: "chat", ID: "victim"}
	if _, err := p.challenge(a); err != nil {
		t.Fatal(err)
	}
	m := chat.Inbox(a)[0]
	want := keyserver.ChallengeMessage{Origin: w.Origin, Account: a, ID: m.ID, Token1: m.Token1, Code: m.Code, Expires: w.clock.now().Add(15 * time.Minute)}
	if fmt.Sprint(m) != fmt.Sprint(want) || len(m.Token1) != 16 || len(m.Code) != 9 || bytes.Contains(m.Token1, public(p.identity)[:4]) {
		t.Errorf("message %+v", m)
	}
}

// Three challenges go to an account within a day, whoever asks, and whichever
// process, after restarts too; a network asks for twenty.
func TestThreat57_QuotasHoldAcrossProcesses(t *testing.T) {
	l := keyservertest.Unlimited()
	l.Challenges = keyserver.DefaultLimits().Challenges
	chat := &keyservertest.Messenger{}
	nodes, clock, _ := newNodes(t, 2, keyserver.Options{Limits: l, Challengers: map[string]keyserver.Challenger{"chat": chat}})
	a := keyapi.Account{Platform: "chat", ID: "victim"}
	for i := range 3 {
		if _, err := nodes[i%2].at(t, clock).register(fmt.Sprint("user", i)).challenge(a); err != nil {
			t.Fatal(err)
		}
		clock.advance(time.Hour)
	}
	for i, n := range nodes {
		_, err := n.at(t, clock).register(fmt.Sprint("mallory", i)).challenge(a)
		wantCode(t, err, keyapi.CodeRateLimited)
	}
	clock.advance(21*time.Hour + 2*time.Second)
	p := nodes[1].at(t, clock).register("later")
	if _, err := p.challenge(a); err != nil {
		t.Errorf("a day after the first: %v", err)
	}
	_, err := p.challenge(a)
	wantCode(t, err, keyapi.CodeRateLimited)

	l = keyservertest.Unlimited()
	l.ChallengesFrom = keyserver.DefaultLimits().ChallengesFrom
	w, _ := messengerWorld(t, l)
	for i := range 21 {
		_, err := w.register(fmt.Sprint("u", i)).challenge(keyapi.Account{Platform: "chat", ID: fmt.Sprint(i)})
		if i < 20 && err != nil {
			t.Fatal(err)
		}
		if i == 20 {
			wantCode(t, err, keyapi.CodeRateLimited)
		}
	}
}

// A challenge that is asked for again by its key is the same one, and is sent
// once; if the platform refused it, it is sent then.
func TestThreat57_RepeatedRequestSendsOnce(t *testing.T) {
	w, chat := messengerWorld(t, keyserver.Limits{})
	p, a := w.register("alice"), keyapi.Account{Platform: "chat", ID: "alice"}
	ask := func() (keyapi.VerifyChallenge, error) {
		return w.c.Verify(keyed(t, "one key for this one"), p.token(), keyapi.VerifyRequest{Account: a, IdentityKey: public(p.identity)})
	}
	chat.Fail(errors.New("down"))
	_, err := ask()
	wantCode(t, err, keyapi.CodeUnavailable)
	chat.Fail(nil)
	c, err := ask()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ask()
	if err != nil || !bytes.Equal(again.ID, c.ID) || len(chat.Inbox(a)) != 1 {
		t.Errorf("again: %v, %d messages", err, len(chat.Inbox(a)))
	}
	if err := p.prove(a, c, chat.Inbox(a)[0].Token1, c.Token2); err != nil {
		t.Fatal(err)
	}
	_, err = ask()
	wantCode(t, err, keyapi.CodeKeyReused)
}

// slowPlatform takes its time; it counts what it is given.
type slowPlatform struct {
	given   atomic.Int32
	release chan struct{}
}

func (p *slowPlatform) SendToken(context.Context, keyserver.ChallengeMessage) error {
	p.given.Add(1)
	<-p.release
	return nil
}

// One request that is sent many times at once makes no cannon of the server.
func TestThreat57_RequestsAtTheSameTimeSendFew(t *testing.T) {
	const requests = 12
	slow := &slowPlatform{release: make(chan struct{})}
	w := newWorld(t, keyserver.Options{Challengers: map[string]keyserver.Challenger{"chat": slow}})
	p, a := w.register("alice"), keyapi.Account{Platform: "chat", ID: "victim"}
	answers := make(chan error, requests)
	for range requests {
		go func() {
			_, err := w.c.Verify(keyed(t, "one key for all of them"), p.token(), keyapi.VerifyRequest{Account: a, IdentityKey: public(p.identity)})
			answers <- err
		}()
	}
	const few = 3
	for range requests - few { // refused while the first ones are under way
		wantCode(t, <-answers, keyapi.CodeKeyReused)
	}
	close(slow.release)
	for range few {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	if n := slow.given.Load(); n != few {
		t.Errorf("%d messages for one challenge", n)
	}
}
