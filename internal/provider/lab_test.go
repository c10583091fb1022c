package provider

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloudmls/gateway/internal/secret"
)

// TestCheckLab signs in at a real Dovecot and Postfix. It runs where
// CLOUDMLS_MAILLAB names the lab.json of a mail lab (test/maillab).
func TestCheckLab(t *testing.T) {
	path := os.Getenv("CLOUDMLS_MAILLAB")
	if path == "" {
		t.Skip("CLOUDMLS_MAILLAB is not set; start a lab with test/maillab/start DIR and name DIR/lab.json")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	type ports struct {
		StrictHost string `json:"strict_host"`
		TLS        int    `json:"tls_port"`
		StartTLS   int    `json:"starttls_port"`
	}
	var lab struct {
		CA        string `json:"ca"`
		Providers map[string]struct {
			IMAP ports `json:"imap"`
			SMTP ports `json:"smtp"`
		} `json:"providers"`
	}
	if err := json.Unmarshal(b, &lab); err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(filepath.Clean(lab.CA))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		t.Fatal("no certificate in the lab's file")
	}
	p := lab.Providers["a"]
	if p.IMAP.TLS == 0 || p.IMAP.StartTLS == 0 || p.SMTP.TLS == 0 || p.SMTP.StartTLS == 0 {
		t.Fatalf("ports are missing in %s: %+v", path, p)
	}
	o := CheckOptions{TLSConfig: &tls.Config{RootCAs: pool}}
	password, wrong := secret.New([]byte("secret-alice")), secret.New([]byte("CANARY"))
	for _, way := range []string{TLSImplicit, TLSStartTLS} {
		imap := Server{Host: p.IMAP.StrictHost, Port: p.IMAP.TLS, TLS: way, Username: "alice@a.test"}
		smtp := Server{Host: "127.0.0.1", Port: p.SMTP.TLS, TLS: way, Username: "alice@a.test"}
		if way == TLSStartTLS {
			imap.Port, smtp.Port = p.IMAP.StartTLS, p.SMTP.StartTLS
		}
		r, err := Check(t.Context(), &Settings{IMAP: imap, SMTP: smtp}, password, password, o)
		if err != nil {
			t.Errorf("%s: %v", way, err)
			continue
		}
		if !r.IMAP.Has("CONDSTORE") || r.SMTP.Size < 50_000_000 || !hasFold(r.SMTP.Auth, "PLAIN") {
			t.Errorf("%s: %+v %+v", way, r.IMAP, r.SMTP)
		}
		_, err = Check(t.Context(), &Settings{IMAP: imap, SMTP: smtp}, wrong, wrong, o)
		wantProblem(t, way, err, "IMAP", ProblemPassword, "AUTHENTICATIONFAILED")
		wantProblem(t, way, err, "SMTP", ProblemPassword, "535 5.7.8")
		_, err = Check(t.Context(), &Settings{IMAP: imap, SMTP: smtp}, password, password, CheckOptions{})
		wantProblem(t, way, err, "IMAP", ProblemTLSAuthority, "")
		wantProblem(t, way, err, "SMTP", ProblemTLSAuthority, "")
	}
}
