package mailproof_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"net"
	"strings"
	"testing"
	"time"

	format "github.com/cloudmls/gateway/internal/mailproof"
	"github.com/cloudmls/gateway/internal/mailtest"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/mailproof"
)

const (
	origin = "https://keys.mail.example"
	alice  = "alice@mail.example"
	from   = "relay@mail.example"
)

func message() keyserver.ChallengeMessage {
	return keyserver.ChallengeMessage{
		Origin: origin, Account: keyapi.Account{Platform: "email", ID: alice}, ID: keyserver.ChallengeID{7},
		Token1: []byte("0123456789abcdef"), Code: "K7X2-M9QP", Expires: time.Now().Add(15 * time.Minute),
	}
}

// relay is a mail provider that takes the key server's mail and has alice's
// mailbox.
func relay(t *testing.T) (*mailtest.Provider, mailproof.Options) {
	t.Helper()
	p := mailtest.NewT(t, mailtest.Options{Domain: "mail.example", Users: []mailtest.User{
		{Address: alice, Password: "secret"}, {Address: "relay@mail.example", Password: "relay-password"},
	}})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(p.AuthorityPEM())
	return p, mailproof.Options{
		Relay: p.SMTPAddr(), TLS: mailproof.TLSImplicit, Roots: roots, Username: "relay@mail.example", Password: "relay-password", From: from,
	}
}

// TestSentAndFound: what the sender signs and a relay delivers, the gateway
// finds in the mailbox and believes.
func TestSentAndFound(t *testing.T) {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p, o := relay(t)
	o.DKIM = &mailproof.DKIM{Domain: "mail.example", Selector: "s", Key: key}
	s, err := mailproof.New(o)
	if err != nil {
		t.Fatal(err)
	}
	m := message()
	if err := s.SendToken(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	sent := p.Submissions()
	if len(sent) != 1 || sent[0].From != from || len(sent[0].Recipients) != 1 || sent[0].Recipients[0] != alice {
		t.Fatalf("submissions: %+v", sent)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	token, err := format.Find(ctx, &format.Mailbox{Addr: p.IMAPAddr(), TLS: "implicit", Config: p.ClientTLS(), Username: alice, Password: "secret"},
		&format.Expected{Origin: origin, Address: alice, ID: m.ID[:], Now: time.Now, LookupTXT: func(name string) ([]string, error) {
			if name != "s._domainkey.mail.example" {
				t.Errorf("asked DNS for %s", name)
			}
			return []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)}, nil
		}})
	if err != nil || !bytes.Equal(token, m.Token1) {
		t.Errorf("token %x, %v", token, err)
	}
}

// TestRelayThatRefuses: the error says what, without the password, and a relay
// that hangs does not hang the server.
func TestRelayThatRefuses(t *testing.T) {
	_, o := relay(t)
	o.Password = "wrong-password"
	s, err := mailproof.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SendToken(t.Context(), message()); err == nil || !strings.Contains(err.Error(), "login") || strings.Contains(err.Error(), "wrong-password") {
		t.Errorf("wrong password: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, security := range []string{mailproof.TLSImplicit, mailproof.TLSStartTLS, mailproof.TLSNone} {
		s, err := mailproof.New(mailproof.Options{Relay: ln.Addr().String(), TLS: security, From: from})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := s.SendToken(ctx, message()); err == nil {
			t.Errorf("%s: a relay that says nothing took the message", security)
		}
		cancel()
	}
	if _, err := mailproof.New(mailproof.Options{Relay: "relay.example.net:25", TLS: mailproof.TLSNone, From: from}); err == nil {
		t.Error("a relay elsewhere without TLS")
	}
	if _, err := mailproof.New(mailproof.Options{Relay: "relay.example.net", From: from}); err == nil {
		t.Error("a relay without a port")
	}
}

// TestThreat57_NoUserTextInChallenges: an address that would add a recipient or
// a field is refused before anything is sent.
func TestThreat57_NoUserTextInChallenges(t *testing.T) {
	p, o := relay(t)
	s, err := mailproof.New(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a@b.example\r\nBcc: c@d.example", "a@b.example>, <c@d.example", "a@b.example\x00", "Buy now <a@b.example>"} {
		m := message()
		m.Account.ID = id
		if err := s.SendToken(t.Context(), m); err == nil {
			t.Errorf("%q was sent to", id)
		}
	}
	if n := len(p.Submissions()); n != 0 {
		t.Errorf("%d messages were sent", n)
	}
}
