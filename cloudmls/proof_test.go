package cloudmls

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// carrier takes challenges to accounts.
type carrier struct {
	mu   sync.Mutex
	last keyserver.ChallengeMessage
}

// SendToken keeps the message.
func (c *carrier) SendToken(_ context.Context, m keyserver.ChallengeMessage) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = m
	return nil
}

// TestThreat53_ProofOfOwnership: an account that must be proven becomes the
// user's by both halves of a challenge that this device asked for, and by nothing
// less; the device may restart in between.
func TestThreat53_ProofOfOwnership(t *testing.T) {
	t.Parallel()
	w := &world{t: t, clock: &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, wire: &wire{}}
	mail := &carrier{}
	w.ks = keyservertest.NewServer(t, keyservertest.Options{Wrap: w.wire.wrap, Server: keyserver.Options{
		Now: w.clock.now, RequireProof: []string{PlatformEmail}, Challengers: map[string]keyserver.Challenger{PlatformEmail: mail},
	}})
	d := &device{w: w, t: t, username: "alice-user", self: account("alice"), store: NewMemoryStore()}
	c, _, err := Register(t.Context(), d.username, password, w.options(d.store))
	if err != nil {
		t.Fatal(err)
	}
	d.Client = c
	t.Cleanup(func() { d.Close() })
	if err := d.AddAccount(t.Context(), d.self); !isCode(err, keyapi.CodeVerificationRequired) {
		t.Fatalf("without a proof: %v", err)
	}
	if err := d.AnswerProof(t.Context(), d.self, make([]byte, 16), make([]byte, 16)); !errors.Is(err, ErrNoChallenge) {
		t.Errorf("a challenge that nobody asked for: %v", err)
	}
	start := func() *Challenge {
		t.Helper()
		ch, err := d.StartProof(t.Context(), d.self)
		if err != nil {
			t.Fatal(err)
		}
		return ch
	}
	ch := start()
	token1 := mail.last.Token1
	w.wire.reset()
	if err := d.AnswerProof(t.Context(), d.self, make([]byte, 16), token1); !errors.Is(err, ErrNoChallenge) {
		t.Errorf("another id: %v", err)
	}
	if err := d.AnswerProof(t.Context(), account("bob"), ch.ID, token1); !errors.Is(err, ErrNoChallenge) {
		t.Errorf("another account: %v", err)
	}
	if n := len(w.wire.requests()); n != 0 {
		t.Errorf("%d requests for what was not asked for", n)
	}
	if err := d.AnswerProof(t.Context(), d.self, ch.ID, make([]byte, 16)); !isCode(err, keyapi.CodeForbidden) {
		t.Errorf("a wrong token: %v", err)
	}
	sibling := d.sibling()
	if err := sibling.AnswerProof(t.Context(), d.self, ch.ID, token1); !errors.Is(err, ErrNoChallenge) {
		t.Errorf("a device that did not ask: %v", err)
	}
	w.clock.advance(time.Hour)
	if err := d.AnswerProof(t.Context(), d.self, ch.ID, token1); !errors.Is(err, ErrNoChallenge) {
		t.Errorf("too late: %v", err)
	}

	ch = start()
	d.crash()
	if again, err := d.Challenged(d.self); err != nil || again == nil || string(again.ID) != string(ch.ID) {
		t.Fatalf("after a restart: %+v, %v", again, err)
	}
	if err := d.AnswerProof(t.Context(), d.self, mail.last.ID[:], mail.last.Token1); err != nil {
		t.Fatal(err)
	}
	if left, err := d.Challenged(d.self); err != nil || left != nil {
		t.Errorf("a challenge is left: %+v, %v", left, err)
	}
	if err := d.AddAccount(t.Context(), d.self); err != nil {
		t.Errorf("after the proof: %v", err)
	}
	if s, err := d.Status(t.Context(), d.self); err != nil || s.KeyPackages == 0 {
		t.Errorf("no KeyPackages: %+v, %v", s, err)
	}

	other := account("alice-too") // a person types the code
	ch, err = d.StartProof(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	code, err := keyapi.ProofCode(mail.last.Code)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.AnswerProof(t.Context(), other, ch.ID, code); err != nil {
		t.Errorf("by code: %v", err)
	}
}
