package device_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/mailtest"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
	"github.com/cloudmls/gateway/keyserver/mailproof"
)

const (
	alice  = "alice@mail.example"
	bob    = "bob@mail.example"
	origin = "https://keys.mail.example"
)

// proofWorld is a key server that proves mail addresses, and the provider that
// carries its messages.
type proofWorld struct {
	provider *mailtest.Provider
	server   *keyservertest.Server
	public   ed25519.PublicKey
	dir      string
}

func newProofWorld(t *testing.T) *proofWorld {
	t.Helper()
	w := &proofWorld{dir: t.TempDir()}
	w.provider = mailtest.NewT(t, mailtest.Options{Domain: "mail.example", Users: []mailtest.User{
		{Address: alice, Password: "secret-alice"}, {Address: bob, Password: "secret-bob"}, {Address: "keys@mail.example", Password: "secret-keys"},
	}})
	var key ed25519.PrivateKey
	var err error
	if w.public, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.provider.AuthorityPEM())
	sender, err := mailproof.New(mailproof.Options{
		Relay: w.provider.SMTPAddr(), TLS: mailproof.TLSImplicit, Roots: roots, Username: "keys@mail.example", Password: "secret-keys",
		From: "keys@mail.example", DKIM: &mailproof.DKIM{Domain: "mail.example", Selector: "s", Key: key},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.server = keyservertest.NewServer(t, keyservertest.Options{Server: keyserver.Options{
		Origin: origin, RequireProof: []string{"email"}, Challengers: map[string]keyserver.Challenger{"email": sender},
	}})
	return w
}

func (w *proofWorld) lookUp(name string) ([]string, error) {
	if name != "s._domainkey.mail.example" {
		return nil, errors.New("no such record")
	}
	return []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(w.public)}, nil
}

// user registers at the key server; the configuration has the accounts.
func (w *proofWorld) user(t *testing.T, name string, addresses ...string) (*cloudmls.Client, *config.Gateway) {
	t.Helper()
	server, err := keyclient.New(keyclient.Options{URL: w.server.URL})
	if err != nil {
		t.Fatal(err)
	}
	client, _, err := cloudmls.Register(t.Context(), name, "correct horse battery", cloudmls.Options{
		Server: server, Origin: origin, Store: cloudmls.NewMemoryStore(), VaultKey: make([]byte, 32), DeviceName: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	authority := filepath.Join(w.dir, "authority.pem")
	if err := os.WriteFile(authority, w.provider.AuthorityPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(w.provider.IMAPAddr())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	g := &config.Gateway{}
	for _, a := range addresses {
		g.Accounts = append(g.Accounts, config.Account{Address: a, IMAP: config.Provider{Host: host, Port: number, TLS: "implicit", CAFile: authority}})
	}
	return client, g
}

func (w *proofWorld) prover(t *testing.T) *device.MailProver {
	return &device.MailProver{
		Origin: origin, Progress: t.Logf, LookupTXT: w.lookUp,
		Password: func(_ context.Context, a config.Account) (secret.Secret, error) {
			local, _, _ := strings.Cut(a.Address, "@")
			return secret.New([]byte("secret-" + local)), nil
		},
	}
}

// TestProofByItself: where the key server wants a proof, the gateway finds the
// server's message in the user's mailbox and answers it; somebody else's address
// cannot be claimed that way.
func TestProofByItself(t *testing.T) {
	w := newProofWorld(t)
	client, g := w.user(t, "alice", alice)
	if err := device.AddAccounts(t.Context(), client, g, nil); !errors.Is(err, device.ErrUnproven) {
		t.Fatalf("without a proof: %v", err)
	}
	if err := device.AddAccounts(t.Context(), client, g, w.prover(t).Prove); err != nil {
		t.Fatal(err)
	}
	sent := len(w.provider.Submissions())
	if err := device.AddAccounts(t.Context(), client, g, w.prover(t).Prove); err != nil || len(w.provider.Submissions()) != sent {
		t.Errorf("again: %v, %d more messages", err, len(w.provider.Submissions())-sent)
	}
	// Mallory has no access to bob's mailbox: the login there fails, and nothing is bob's or mallory's.
	mallory, theirs := w.user(t, "mallory", bob)
	p := w.prover(t)
	p.Password = func(context.Context, config.Account) (secret.Secret, error) { return secret.New([]byte("guess")), nil }
	if err := device.AddAccounts(t.Context(), mallory, theirs, p.Prove); !errors.Is(err, device.ErrUnproven) || strings.Contains(err.Error(), "guess") {
		t.Errorf("somebody else's address: %v", err)
	}
	real, own := w.user(t, "bob", bob)
	if err := device.AddAccounts(t.Context(), real, own, w.prover(t).Prove); err != nil {
		t.Errorf("the owner afterwards: %v", err)
	}
}

// TestProofByCode: a person types the code of the message.
func TestProofByCode(t *testing.T) {
	w := newProofWorld(t)
	client, g := w.user(t, "alice", alice)
	away := func(context.Context, config.Account, *cloudmls.Challenge) ([]byte, error) {
		return nil, errors.New("the mailbox cannot be reached")
	}
	if err := device.ProveByCode(t.Context(), client, alice, "AAAA-AAAA"); err == nil || !strings.Contains(err.Error(), "no proof is under way") {
		t.Errorf("a code before it was asked for: %v", err)
	}
	if err := device.AddAccounts(t.Context(), client, g, away); !errors.Is(err, device.ErrUnproven) || !strings.Contains(err.Error(), "account prove") {
		t.Fatalf("mailbox away: %v", err)
	}
	messages, err := w.provider.Messages(alice, "INBOX")
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d messages, %v", len(messages), err)
	}
	code := regexp.MustCompile(`(?m)^    ([0-9A-Z]{4}-[0-9A-Z]{4})\r$`).FindStringSubmatch(string(messages[0].Content))
	if code == nil {
		t.Fatalf("no code in\n%s", messages[0].Content)
	}
	if err := device.ProveByCode(t.Context(), client, alice, "0000-0000"); err == nil {
		t.Error("a wrong code was taken")
	}
	if err := device.ProveByCode(t.Context(), client, alice, strings.ToLower(code[1])); err != nil {
		t.Errorf("the code: %v", err)
	}
}
