package mailtest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

const (
	alice = "alice@example.org"
	bob   = "bob@example.net"
)

func twoProviders(t *testing.T, security Security) (a, b *Provider) {
	t.Helper()
	w := NewWorld()
	a = NewT(t, Options{World: w, Security: security, Users: []User{{alice, "pa"}}})
	b = NewT(t, Options{World: w, Security: security, Users: []User{{bob, "pb"}}})
	return a, b
}

func dialSMTP(t *testing.T, p *Provider, username, password string) *smtp.Client {
	t.Helper()
	var (
		c   *smtp.Client
		err error
	)
	switch p.security {
	case ImplicitTLS:
		c, err = smtp.DialTLS(p.SMTPAddr(), p.ClientTLS())
	case StartTLS:
		c, err = smtp.DialStartTLS(p.SMTPAddr(), p.ClientTLS())
	default:
		c, err = smtp.Dial(p.SMTPAddr())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Auth(sasl.NewPlainClient("", username, password)); err != nil {
		t.Fatal(err)
	}
	return c
}

func dialIMAP(t *testing.T, p *Provider, username, password string) *imapclient.Client {
	t.Helper()
	var (
		c   *imapclient.Client
		err error
		o   = &imapclient.Options{TLSConfig: p.ClientTLS()}
	)
	switch p.security {
	case ImplicitTLS:
		c, err = imapclient.DialTLS(p.IMAPAddr(), o)
	case StartTLS:
		c, err = imapclient.DialStartTLS(p.IMAPAddr(), o)
	default:
		c, err = imapclient.DialInsecure(p.IMAPAddr(), o)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.Login(username, password).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

const letter = "From: alice@example.org\r\nTo: bob@example.net\r\nSubject: x\r\n\r\n.dot\r\nbody\r\n"

func TestSubmissionReachesOtherProvider(t *testing.T) {
	for name, security := range map[string]Security{"tls": ImplicitTLS, "starttls": StartTLS, "plain": Plain} {
		t.Run(name, func(t *testing.T) {
			a, b := twoProviders(t, security)
			c := dialSMTP(t, a, alice, "pa")
			if err := c.SendMail(alice, []string{bob}, strings.NewReader(letter)); err != nil {
				t.Fatal(err)
			}
			subs := a.Submissions()
			if len(subs) != 1 || string(subs[0].Content) != letter {
				t.Fatalf("submissions = %+v, want the letter", subs)
			}
			got, err := b.Messages(bob, "INBOX")
			if err != nil || len(got) != 1 {
				t.Fatalf("Messages = %v, %v, want one", got, err)
			}
			content := string(got[0].Content)
			if !strings.HasPrefix(content, "Return-Path: <"+alice+">\r\n") || !strings.HasSuffix(content, "\r\n"+letter) {
				t.Errorf("stored content = %q", content)
			}
			if n := strings.Count(content, "Received: from"); n != 2 {
				t.Errorf("%d Received fields, want 2", n)
			}
			im := dialIMAP(t, b, bob, "pb")
			if _, err := im.Select("INBOX", nil).Wait(); err != nil {
				t.Fatal(err)
			}
			section := &imap.FetchItemBodySection{Peek: true}
			l, err := im.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
			if err != nil || len(l) != 1 {
				t.Fatalf("fetch = %v, %v", l, err)
			}
			if fetched := l[0].FindBodySection(section); string(fetched) != content {
				t.Errorf("fetched = %q, want %q", fetched, content)
			}
		})
	}
}

func TestRawContentsFollowMessages(t *testing.T) {
	a, _ := twoProviders(t, ImplicitTLS)
	im := dialIMAP(t, a, alice, "pa")
	for _, body := range []string{"one", "two", "three"} {
		content := "Subject: " + body + "\r\n\r\n" + body + "\r\n"
		cmd := im.Append("Drafts", int64(len(content)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagDraft}})
		if _, err := cmd.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := im.Select("Drafts", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := im.Copy(imap.SeqSetNum(3), "Sent").Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := im.Move(imap.SeqSetNum(1, 2), "Trash").Wait(); err != nil {
		t.Fatal(err)
	}
	all, err := a.All()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range all {
		got = append(got, m.Mailbox+" "+string(bytes.TrimSpace(m.Content[bytes.Index(m.Content, []byte("\r\n\r\n")):])))
	}
	slices.Sort(got)
	want := []string{"Drafts three", "Sent three", "Trash one", "Trash two"}
	if !slices.Equal(got, want) {
		t.Errorf("contents = %q, want %q", got, want)
	}
	drafts, err := a.Messages(alice, "Drafts")
	if err != nil || len(drafts) != 1 || !slices.Contains(drafts[0].Flags, `\draft`) {
		t.Errorf("drafts = %+v, %v", drafts, err)
	}
}

func TestSpecialUse(t *testing.T) {
	a, _ := twoProviders(t, ImplicitTLS)
	im := dialIMAP(t, a, alice, "pa")
	l, err := im.List("", "*", &imap.ListOptions{ReturnSpecialUse: true}).Collect()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, m := range l {
		for _, attr := range m.Attrs {
			found[m.Mailbox+string(attr)] = true
		}
	}
	for _, want := range []string{`Drafts\Drafts`, `Sent\Sent`, `Trash\Trash`} {
		if !found[want] {
			t.Errorf("LIST lacks %s; has %v", want, found)
		}
	}
}

func TestSMTPFaults(t *testing.T) {
	refusal := func(at Point) Fault {
		return Fault{At: at, Times: 1, Code: 451, Enhanced: [3]int{4, 3, 2}, Text: "later"}
	}
	for _, at := range []Point{SMTPMail, SMTPRcpt, SMTPContent, SMTPReceived} {
		t.Run(string(at), func(t *testing.T) {
			a, b := twoProviders(t, ImplicitTLS)
			c := dialSMTP(t, a, alice, "pa")
			a.Inject(refusal(at))
			err := c.SendMail(alice, []string{bob}, strings.NewReader(letter))
			var smtpErr *smtp.SMTPError
			if !errors.As(err, &smtpErr) || smtpErr.Code != 451 || smtpErr.Message != "later" {
				t.Errorf("err = %v, want the injected one", err)
			}
			if l, err := b.Messages(bob, "INBOX"); err != nil || len(l) != 0 {
				t.Errorf("stored %d messages, %v; want none", len(l), err)
			}
			if err := c.Reset(); err != nil {
				t.Fatal(err)
			}
			if err := c.SendMail(alice, []string{bob}, strings.NewReader(letter)); err != nil {
				t.Errorf("second attempt: %v", err)
			}
		})
	}
	for _, at := range []Point{SMTPMail, SMTPRcpt, SMTPData, SMTPContent, SMTPReceived, SMTPStored} {
		t.Run("close at "+string(at), func(t *testing.T) {
			a, b := twoProviders(t, ImplicitTLS)
			c := dialSMTP(t, a, alice, "pa")
			a.Inject(Fault{At: at, Close: true})
			if err := c.SendMail(alice, []string{bob}, strings.NewReader(letter)); err == nil {
				t.Error("no error although the connection was closed")
			}
			l, err := b.Messages(bob, "INBOX")
			if err != nil || (len(l) == 1) != (at == SMTPStored) {
				t.Errorf("stored %d messages, %v", len(l), err)
			}
		})
	}
}

func TestIMAPFaultAndWait(t *testing.T) {
	a, _ := twoProviders(t, ImplicitTLS)
	im := dialIMAP(t, a, alice, "pa")
	remove := a.Inject(Fault{At: IMAPSelect, Match: "Sent", Status: "NO", Text: "not now"})
	if _, err := im.Select("Sent", nil).Wait(); err == nil || !strings.Contains(err.Error(), "not now") {
		t.Errorf("select = %v, want the injected NO", err)
	}
	remove()
	reached, hold := make(chan struct{}), make(chan struct{})
	a.Inject(Fault{At: IMAPSelect, Times: 1, Reached: func() { close(reached) }, Wait: hold})
	cmd := im.Select("Sent", nil)
	<-reached
	close(hold)
	if _, err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestDownAndUp(t *testing.T) {
	a, _ := twoProviders(t, ImplicitTLS)
	addr := a.SMTPAddr()
	if err := a.Down(); err != nil {
		t.Fatal(err)
	}
	if conn, err := tls.Dial("tcp", addr, a.ClientTLS()); err == nil {
		_ = conn.Close()
		t.Fatal("a provider that is down accepts connections")
	}
	if err := a.Up(); err != nil {
		t.Fatal(err)
	}
	if a.SMTPAddr() != addr {
		t.Errorf("address changed from %s to %s", addr, a.SMTPAddr())
	}
	c := dialSMTP(t, a, alice, "pa")
	if err := c.SendMail(alice, []string{alice}, strings.NewReader(letter)); err != nil {
		t.Error(err)
	}
}
