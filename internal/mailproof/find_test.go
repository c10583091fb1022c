package mailproof_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/internal/mailproof"
	"github.com/cloudmls/gateway/internal/mailtest"
)

func mailbox(t *testing.T) (*mailtest.Provider, *mailproof.Mailbox) {
	t.Helper()
	p := mailtest.NewT(t, mailtest.Options{Domain: "mail.example", Users: []mailtest.User{{Address: address, Password: "secret"}}})
	return p, &mailproof.Mailbox{Addr: p.IMAPAddr(), TLS: "implicit", Config: p.ClientTLS(), Username: address, Password: "secret"}
}

func TestFind(t *testing.T) {
	z := newZone("keys.example.org", "evil.example")
	for _, where := range []string{"INBOX", "Junk"} {
		p, m := mailbox(t)
		forged := z.sign(t, compose(t, sender), "evil.example", allFields)
		genuine := z.sign(t, compose(t, sender), "keys.example.org", allFields)
		if err := p.Deliver(address, "INBOX", forged); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		go func() {
			time.Sleep(200 * time.Millisecond) // while it is waited for
			if err := p.Deliver(address, where, genuine); err != nil {
				t.Error(err)
			}
		}()
		token, err := mailproof.Find(ctx, m, expected(z))
		cancel()
		if err != nil || !bytes.Equal(token, challenge().Token) {
			t.Errorf("%s: token %x, %v", where, token, err)
		}
		stored, err := p.Messages(address, where)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range stored {
			if len(s.Flags) != 0 {
				t.Errorf("%s: flags changed to %v", where, s.Flags)
			}
		}
	}
}

// TestFindNothing: forged challenges alone are no challenge, and the person
// learns why.
func TestFindNothing(t *testing.T) {
	z := newZone("keys.example.org", "evil.example")
	p, m := mailbox(t)
	if err := p.Deliver(address, "INBOX", z.sign(t, compose(t, sender), "evil.example", allFields)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	token, err := mailproof.Find(ctx, m, expected(z))
	if token != nil || !errors.Is(err, mailproof.ErrNotArrived) || !strings.Contains(err.Error(), "signed by evil.example") {
		t.Errorf("token %x, %v", token, err)
	}
	m.Password = "wrong"
	if _, err := mailproof.Find(t.Context(), m, expected(z)); err == nil || errors.Is(err, mailproof.ErrNotArrived) || strings.Contains(err.Error(), "wrong") {
		t.Errorf("wrong password: %v", err)
	}
}
