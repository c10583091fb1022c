package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// letter builds a message with a canary in every place where text can be:
// subject, display name, text, HTML, attachment and its name. The canary in
// the text stands in 8bit, quoted-printable or base64.
func letter(id, from string, to, cc []string, answers, canary, encoding string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "Date: Mon, 23 Nov 2026 10:00:00 +0100\r\nFrom: \"Sender %s\" <%s>\r\nTo: %s\r\n", canary, from, strings.Join(to, ", "))
	if len(cc) > 0 {
		fmt.Fprintf(&b, "Cc: %s\r\n", strings.Join(cc, ", "))
	}
	fmt.Fprintf(&b, "Message-ID: %s\r\n", id)
	if answers != "" {
		fmt.Fprintf(&b, "In-Reply-To: %s\r\nReferences: %s\r\n", answers, answers)
	}
	fmt.Fprintf(&b, "Subject: About %s\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"frontier\"\r\n\r\n", canary)
	b.WriteString("This is a message in several parts.\r\n--frontier\r\n")
	switch encoding {
	case "8bit":
		fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße, %s\r\n.\r\n..and dots\r\n", canary)
	case "quoted-printable":
		fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe, %s=\r\n%s\r\n", canary[:8], canary[8:])
	case "base64":
		fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n",
			base64.StdEncoding.EncodeToString([]byte("Words before the secret "+canary+" and behind")))
	}
	fmt.Fprintf(&b, "--frontier\r\nContent-Type: text/html\r\n\r\n<p>%s</p>\r\n", canary)
	fmt.Fprintf(&b, "--frontier\r\nContent-Type: text/csv; name=\"%s.csv\"\r\nContent-Disposition: attachment; filename=\"%s.csv\"\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n--frontier--\r\n",
		canary, canary, base64.StdEncoding.EncodeToString([]byte("a,b\n1,"+canary+"\n")))
	return []byte(b.String())
}

// TestDialogAndGroupOnRealServers: swaks submits through two gateways, Postfix
// relays, Dovecot stores, curl reads; nothing readable lies anywhere.
func TestDialogAndGroupOnRealServers(t *testing.T) {
	s := stack.New(t, lab)
	a := s.AddUser("alice", stack.Alice)
	b := s.AddUser("erin", stack.Erin, stack.Frank)
	source := rand.New(rand.NewPCG(1, 2))
	canary := func() string { return fmt.Sprintf("CANARY-%016x", source.Uint64()) }
	var secrets []string

	type mail struct {
		from    string
		through *stack.Gateway
		to, cc  []string
		answers string
		enc     string
		readers map[string]*stack.Gateway
	}
	mails := []mail{
		{stack.Alice, a, []string{stack.Erin}, nil, "", "8bit", map[string]*stack.Gateway{stack.Erin: b}},
		{stack.Erin, b, []string{stack.Alice}, nil, "<m0@a.test>", "quoted-printable", map[string]*stack.Gateway{stack.Alice: a}},
		{stack.Alice, a, []string{stack.Erin}, []string{stack.Frank}, "", "base64", map[string]*stack.Gateway{stack.Erin: b, stack.Frank: b}},
		{stack.Frank, b, []string{stack.Alice, stack.Erin}, nil, "<m2@a.test>", "8bit", map[string]*stack.Gateway{stack.Alice: a, stack.Erin: b}},
		{stack.Erin, b, []string{stack.Frank, stack.Alice}, nil, "<m3@b.test>", "quoted-printable", map[string]*stack.Gateway{stack.Alice: a, stack.Frank: b}},
	}
	for i, m := range mails {
		_, domain, _ := strings.Cut(m.from, "@")
		id := fmt.Sprintf("<m%d@%s>", i, domain)
		secret := canary()
		secrets = append(secrets, secret)
		msg := letter(id, m.from, m.to, m.cc, m.answers, secret, m.enc)
		out, err := m.through.Swaks(m.from, append(m.to, m.cc...), msg)
		if err != nil {
			t.Fatalf("mail %d: %v\n%s\n%s", i, err, out, m.through.LogText())
		}
		if !strings.Contains(out, "queued as") {
			t.Errorf("mail %d: Postfix's own words are missing in:\n%s", i, out)
		}
		for reader, g := range m.readers {
			c := g.Mail(reader)
			uid := c.Arrives("INBOX", id)
			seen := g.Curl(reader, "INBOX", uid)
			if got := stack.WithoutPrefix(t, seen); !bytes.Equal(got, msg) {
				t.Errorf("mail %d at %s: got %d octets, want the %d submitted ones\n%s", i, reader, len(got), len(msg), seen)
			}
			if flags := c.Fetch(uid, "FLAGS").String(); !strings.Contains(flags, "$MLSEncrypted") || strings.Contains(flags, "$MLSVerified") || strings.Contains(flags, "$MLSWarning") {
				t.Errorf("mail %d at %s: flags %s", i, reader, flags)
			}
		}
	}

	// A draft and a sent copy, through IMAP.
	secret := canary()
	secrets = append(secrets, secret)
	draft := letter("<draft@a.test>", stack.Alice, []string{stack.Erin}, nil, "", secret, "8bit")
	c := a.Mail(stack.Alice)
	c.OK("SELECT Drafts")
	uid := c.Append("Drafts", `(\Draft)`, draft)
	if got := stack.WithoutPrefix(t, c.Fetch(uid, "BODY.PEEK[]").Str); !bytes.Equal(got, draft) {
		t.Errorf("draft: got %q, want %q", got, draft)
	}

	// The control: a plain mail straight to the provider, past the gateways.
	control := canary()
	for i, enc := range []string{"8bit", "quoted-printable", "base64"} {
		plain := letter(fmt.Sprintf("<control%d@a.test>", i), stack.Alice, []string{stack.Erin}, nil, "", control, enc)
		lab.SendDirect(t, stack.Alice, stack.Erin, plain)
		d := lab.Direct(t, stack.Erin)
		d.Arrives("INBOX", fmt.Sprintf("<control%d@a.test>", i))
	}

	folders := append([]string{s.Dir}, lab.Folders()...)
	for c, files := range stack.FindCanaries(t, secrets, folders...) {
		t.Errorf("%s lies readable in %v", c, files)
	}
	found := stack.FindCanaries(t, []string{control}, lab.Folders()...)
	if len(found[control]) < 3 {
		t.Errorf("the search found the control mails in %v only", found[control])
	}

	// A second device has nothing but the password.
	second := s.AddDevice("alice2", "alice", stack.Alice)
	c = second.Mail(stack.Alice)
	for i, m := range mails {
		if m.from == stack.Alice {
			continue
		}
		_, domain, _ := strings.Cut(m.from, "@")
		uid := c.Arrives("INBOX", fmt.Sprintf("<m%d@%s>", i, domain))
		if got, want := stack.WithoutPrefix(t, c.Fetch(uid, "BODY.PEEK[]").Str), letter(fmt.Sprintf("<m%d@%s>", i, domain), m.from, m.to, m.cc, m.answers, secrets[i], m.enc); !bytes.Equal(got, want) {
			t.Errorf("mail %d on the second device: got %q", i, got)
		}
	}
	c.OK("SELECT Drafts")
	if got := stack.WithoutPrefix(t, c.Fetch(uid, "BODY.PEEK[]").Str); !bytes.Equal(got, draft) {
		t.Error("the draft does not open on the second device")
	}
}
