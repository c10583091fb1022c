package smtpd

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/internal/mailtest"
)

// TestExtensionsAreDocumented: docs/smtp-extensions.md holds the table as the
// code has it. UPDATE_DOCS=1 writes it.
func TestExtensionsAreDocumented(t *testing.T) {
	file := filepath.Join("..", "docs", "smtp-extensions.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(text, []byte("| extension |"))
	if i < 0 {
		t.Fatal("no table in the document")
	}
	want := slices.Concat(text[:i], []byte(ExtensionsTable()))
	if bytes.Equal(text, want) {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatal("the table differs from smtpd/extensions.go; UPDATE_DOCS=1 writes it")
	}
	if err := os.WriteFile(file, want, 0o644); err != nil { //nolint:gosec // a document
		t.Fatal(err)
	}
}

// TestExtensionsAreOffered: EHLO lists exactly what the table offers, and
// parameters of what it does not offer are refused.
func TestExtensionsAreOffered(t *testing.T) {
	w := newWorld(t, worldOptions{})
	r := w.raw()
	r.want("220")
	r.say("EHLO x\r\n")
	var got, want []string
	for i, line := range strings.Split(strings.TrimSpace(r.want("250")), "\r\n") {
		if i > 0 {
			keyword, _, _ := strings.Cut(line[4:], " ")
			got = append(got, keyword)
		}
	}
	for _, e := range Extensions() {
		if e.Offered {
			want = append(want, e.Keyword)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("EHLO offers %v, the table %v", got, want)
	}
	r = w.rawLogin()
	for _, parameter := range []string{"REQUIRETLS", "BODY=BINARYMIME", "HOLDFOR=60", "BY=120;R", "MT-PRIORITY=3", "XUNKNOWN=1"} {
		r.say("MAIL FROM:<" + alice + "> " + parameter + "\r\n")
		if got := r.want("5"); got[:3] != "504" && got[:3] != "500" && got[:3] != "555" && got[:3] != "501" {
			t.Errorf("%s: %q", parameter, got)
		}
	}
	r.say("MAIL FROM:<" + alice + ">\r\n")
	r.want("250")
	for _, parameter := range []string{"RRVS=2014-04-03T23:01:00Z", "BY=120;R", "MT-PRIORITY=3", "XUNKNOWN=1"} {
		r.say("RCPT TO:<" + bob + "> " + parameter + "\r\n")
		r.want("5")
	}
	if n := len(w.provider.Submissions()); n != 0 {
		t.Errorf("%d submissions", n)
	}
}

// TestDSNNeedsTheProvider: the provider in memory has no DSN, so whoever asks
// for it is told, at MAIL and at RCPT.
func TestDSNNeedsTheProvider(t *testing.T) {
	w := newWorld(t, worldOptions{provider: mailtest.Options{}})
	r := w.rawLogin()
	for _, parameter := range []string{"RET=HDRS", "ENVID=QQ314159"} {
		r.say("MAIL FROM:<" + alice + "> " + parameter + "\r\n")
		r.want("555 5.5.4 your mail provider does not report on delivery")
	}
	r.say("MAIL FROM:<" + alice + ">\r\n")
	r.want("250")
	for _, parameter := range []string{"NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;bob@example.net"} {
		r.say("RCPT TO:<" + bob + "> " + parameter + "\r\n")
		r.want("555 5.5.4")
	}
	r.say("RCPT TO:<" + bob + ">\r\n") // without, it goes
	r.want("250")
	r.say("DATA\r\n")
	r.want("354")
	r.say(letter + ".\r\n")
	r.want("250")
}
