package thunderbird

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"mime"
	"net/smtp"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/stack"
)

// letter is a message as some other mail client writes it.
type letter struct {
	id, from, to, cc, subject string
	text, html                string
	file                      []byte // attachment, if not nil
	name                      string // its name
}

// bytes is the message with CRLF line ends.
func (l letter) bytes() []byte {
	var b strings.Builder
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	field("Date", "Mon, 23 Nov 2026 10:00:00 +0100")
	field("From", l.from)
	field("To", l.to)
	field("Cc", l.cc)
	field("Message-ID", l.id)
	field("Subject", mime.BEncoding.Encode("utf-8", l.subject))
	field("MIME-Version", "1.0")
	if l.file == nil {
		l.body(&b)
		return []byte(b.String())
	}
	b.WriteString("Content-Type: multipart/mixed; boundary=\"frontier\"\r\n\r\n--frontier\r\n")
	l.body(&b)
	fmt.Fprintf(&b, "\r\n--frontier\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename*=utf-8''%s\r\nContent-Transfer-Encoding: base64\r\n\r\n",
		url.PathEscape(l.name))
	s := base64.StdEncoding.EncodeToString(l.file)
	for ; len(s) > 76; s = s[76:] {
		b.WriteString(s[:76] + "\r\n")
	}
	b.WriteString(s + "\r\n--frontier--\r\n")
	return []byte(b.String())
}

func (l letter) body(b *strings.Builder) {
	content, kind := l.text, "plain"
	if l.html != "" {
		content, kind = l.html, "html"
	}
	fmt.Fprintf(b, "Content-Type: text/%s; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n", kind, content)
}

// submission is a connection to a gateway that takes any number of messages.
type submission struct {
	*smtp.Client
	from string
}

func submit(t *testing.T, g *stack.Gateway, from string) submission {
	t.Helper()
	pem, err := os.ReadFile(g.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	conn, err := tls.Dial("tcp", g.SMTP, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Auth(smtp.PlainAuth("", from, g.Password, "localhost")); err != nil {
		t.Fatal(err)
	}
	return submission{c, from}
}

// send submits a message and returns when the gateway said 250.
func (s submission) send(t *testing.T, msg []byte, to ...string) time.Time {
	t.Helper()
	if err := s.Mail(s.from); err != nil {
		t.Fatal(err)
	}
	for _, r := range to {
		if err := s.Rcpt(r); err != nil {
			t.Fatal(err)
		}
	}
	data, err := s.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := data.Write(msg); err != nil {
		t.Fatal(err)
	}
	if err := data.Close(); err != nil {
		t.Fatal(err)
	}
	return time.Now()
}
