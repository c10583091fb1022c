package stack

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/smtp"
	"os"
	"testing"
)

// Submission is one connection to a gateway's submission port, logged in, over
// which any number of messages go. It leaves every octet alone.
type Submission struct {
	from string
	c    *smtp.Client
}

// Submission logs in as an account of the gateway.
func (g *Gateway) Submission(address string) *Submission {
	g.t.Helper()
	conn, err := tls.Dial("tcp", g.SMTP, &tls.Config{RootCAs: Authority(g.t, g.CA), ServerName: "localhost"})
	if err != nil {
		g.t.Fatalf("connect to %s: %v", g.SMTP, err)
	}
	g.t.Cleanup(func() { _ = conn.Close() })
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		g.t.Fatalf("submission: %v", err)
	}
	if err := c.Auth(smtp.PlainAuth("", address, g.Password, "localhost")); err != nil {
		g.t.Fatalf("log in as %s: %v", address, err)
	}
	return &Submission{from: address, c: c}
}

// Send submits one message, declared as 8BITMIME, and returns the server's
// refusal as it is. After a refusal the connection goes on.
func (s *Submission) Send(to []string, msg []byte) error {
	if err := s.send(to, msg); err != nil {
		_ = s.c.Reset() // fails only with the connection, and then the next Send says so
		return err
	}
	return nil
}

func (s *Submission) send(to []string, msg []byte) error {
	w, err := s.Begin(to)
	if err != nil {
		return err
	}
	if _, err := w.Write(msg); err != nil {
		return err
	}
	return w.Close()
}

// Begin goes as far as DATA. What is written goes to the server; Close ends the
// message and returns the server's answer.
func (s *Submission) Begin(to []string) (io.WriteCloser, error) {
	id, err := s.c.Text.Cmd("MAIL FROM:<%s> BODY=8BITMIME", s.from)
	if err != nil {
		return nil, err
	}
	s.c.Text.StartResponse(id)
	_, _, err = s.c.Text.ReadResponse(250)
	s.c.Text.EndResponse(id)
	if err != nil {
		return nil, err
	}
	for _, r := range to {
		if err := s.c.Rcpt(r); err != nil {
			return nil, err
		}
	}
	return s.c.Data()
}

// Authority reads a file of certificates that are trusted.
func Authority(t testing.TB, file string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s: no certificate", file)
	}
	return pool
}
