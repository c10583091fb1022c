package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/mailtest"
	"github.com/cloudmls/gateway/proxy"
)

// statusOf is the status of alice's only account.
func statusOf(t *testing.T, w *gatewaytest.World) proxy.AccountStatus {
	t.Helper()
	s := w.Person("alice").Device().Gateway().Status(t.Context())
	if len(s.Accounts) != 1 || s.Accounts[0].Address != alice {
		t.Fatalf("status %+v", s)
	}
	return s.Accounts[0]
}

func wantFault(t *testing.T, where string, p proxy.ProviderStatus, kind proxy.FaultKind, text string) {
	t.Helper()
	switch {
	case !p.Failing || p.LastError == nil:
		t.Errorf("%s: no fault, want %s", where, kind)
	case p.LastError.Kind != kind || !strings.Contains(strings.ToLower(p.LastError.Text), text) || p.LastError.Time.IsZero():
		t.Errorf("%s: %+v, want %s with %q", where, p.LastError, kind, text)
	}
}

// TestStatusOfProviderFaults: each fault of a provider shows under a kind that
// says what to do, for reading and for sending, and goes with the next success.
func TestStatusOfProviderFaults(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	program := w.Program("alice")
	tryBoth := func() (read, sent error) {
		c, read := program.IMAP(t.Context())
		if read == nil {
			read = c.Close()
		}
		return read, w.Try("alice", letter("x", alice, oscar))
	}
	if read, sent := tryBoth(); read != nil || sent != nil {
		t.Fatal(read, sent)
	}
	s := statusOf(t, w)
	if s.IMAP.Failing || s.SMTP.Failing || s.IMAP.LastSuccess.IsZero() || s.SMTP.LastSuccess.IsZero() || s.IMAP.LastError != nil {
		t.Errorf("a healthy account: %+v %+v", s.IMAP, s.SMTP)
	}
	provider := w.Provider("example.org")
	for _, c := range []struct {
		name               string
		imap, smtp         mailtest.Fault
		change             func(*proxy.AccountConfig)
		kind               proxy.FaultKind
		imapText, smtpText string
	}{
		{
			name: "password refused", kind: proxy.FaultLogin, imapText: "no longer valid", smtpText: "no longer valid",
			imap: mailtest.Fault{At: mailtest.IMAPLogin, Status: "NO", Text: "no longer valid"},
			smtp: mailtest.Fault{At: mailtest.SMTPAuth, Code: 535, Enhanced: [3]int{5, 7, 8}, Text: "no longer valid"},
		},
		{
			name: "no further connection", kind: proxy.FaultNotNow, imapText: "too many", smtpText: "too many",
			imap: mailtest.Fault{At: mailtest.IMAPLogin, Status: "NO", Text: "[LIMIT] too many connections"},
			smtp: mailtest.Fault{At: mailtest.SMTPAuth, Code: 454, Enhanced: [3]int{4, 7, 0}, Text: "too many connections"},
		},
		{
			name: "connection refused", kind: proxy.FaultUnreachable, imapText: "could not be reached", smtpText: "cannot be reached",
			change: func(c *proxy.AccountConfig) { c.IMAP.Addr, c.SMTP.Addr = "127.0.0.1:1", "127.0.0.1:1" },
		},
		{
			name: "certificate", kind: proxy.FaultCertificate, imapText: "certificate", smtpText: "provider",
			change: func(c *proxy.AccountConfig) {
				c.IMAP.TLSConfig, c.SMTP.TLSConfig = &tls.Config{}, &tls.Config{}
			},
		},
		{
			name: "password file gone", kind: proxy.FaultNoPassword, imapText: "password", smtpText: "password",
			change: func(c *proxy.AccountConfig) {
				gone := func(context.Context) (string, error) { return "", errors.New("no such file") }
				c.IMAP.Password, c.SMTP.Password = gone, gone
			},
		},
		{
			name: "hangs up", kind: proxy.FaultLost, imapText: "closed", smtpText: "broke",
			imap: mailtest.Fault{At: mailtest.IMAPLogin, Close: true}, smtp: mailtest.Fault{At: mailtest.SMTPAuth, Close: true},
		},
	} {
		config := account(w, "alice")
		if c.change != nil {
			c.change(&config)
		}
		undo := []func(){}
		for _, f := range []mailtest.Fault{c.imap, c.smtp} {
			if f.At != "" {
				undo = append(undo, provider.Inject(f))
			}
		}
		reload(t, w, config)
		read, sent := tryBoth()
		var reply *smtp.SMTPError
		if read == nil || !errors.As(sent, &reply) || reply.Code/100 != 4 {
			t.Errorf("%s: reading gave %v, sending %v", c.name, read, sent)
		}
		s := statusOf(t, w)
		wantFault(t, c.name+", imap", s.IMAP, c.kind, c.imapText)
		wantFault(t, c.name+", smtp", s.SMTP, c.kind, c.smtpText)
		for _, u := range undo {
			u()
		}
		reload(t, w, account(w, "alice"))
		if read, sent := tryBoth(); read != nil || sent != nil {
			t.Fatal(c.name, read, sent)
		}
		if s := statusOf(t, w); s.IMAP.Failing || s.SMTP.Failing || s.IMAP.LastError == nil {
			t.Errorf("%s: after it was mended: %+v %+v", c.name, s.IMAP, s.SMTP)
		}
	}
}

func problem(s proxy.AccountStatus, kind proxy.ProblemKind) *proxy.Problem {
	for i := range s.Problems {
		if s.Problems[i].Kind == kind {
			return &s.Problems[i]
		}
	}
	return nil
}

// TestStatusOfAFullMailbox: the refusal of an upload for want of room shows
// until one is stored.
func TestStatusOfAFullMailbox(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	draft := letter("draft", alice, bob).Bytes()
	undo := w.Provider("example.org").Inject(mailtest.Fault{At: mailtest.IMAPAppend, Status: "NO", Text: "[OVERQUOTA] full"})
	if err := w.Program("alice").Append(t.Context(), "Drafts", nil, draft); err == nil {
		t.Fatal("stored in a full mailbox")
	}
	if p := problem(statusOf(t, w), proxy.ProblemFull); p == nil || p.Since.IsZero() || !strings.Contains(p.Text, "full") {
		t.Errorf("problem %+v", p)
	}
	undo()
	if err := w.Program("alice").Append(t.Context(), "Drafts", nil, draft); err != nil {
		t.Fatal(err)
	}
	p := problem(statusOf(t, w), proxy.ProblemFull) // told right behind the answer to the mail client
	for deadline := time.Now().Add(10 * time.Second); p != nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		p = problem(statusOf(t, w), proxy.ProblemFull)
	}
	if p != nil {
		t.Errorf("there is room again, and the status says %+v", p)
	}
}

// TestStatusOfGivenUpDeliveries: they are told after a restart as well.
func TestStatusOfGivenUpDeliveries(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	w.Provider("example.org").Inject(mailtest.Fault{At: mailtest.SMTPRcpt, Match: bob, Skip: 1, Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such person"})
	l := letter("half", alice, carol)
	l.Bcc = []string{bob}
	w.Send("alice", l)
	var q proxy.QueueStatus
	for len(q.Failed) == 0 && t.Context().Err() == nil {
		q = statusOf(t, w).Queue
	}
	device := w.Person("alice").Device()
	if err := errors.Join(device.Stop(), device.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, q := range []proxy.QueueStatus{q, statusOf(t, w).Queue} {
		if len(q.Failed) != 1 || len(q.Failed[0].Recipients) != 1 || q.Failed[0].Recipients[0] != bob || !strings.Contains(q.Failed[0].Text, "no such person") {
			t.Errorf("given up: %+v", q.Failed)
		}
	}
}

// TestStatusOfTheKeyServer: the loop says that it waits, why, and until when;
// and what was well before stays known.
func TestStatusOfTheKeyServer(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	w.Send("alice", letter("one", alice, bob))
	s := statusOf(t, w)
	if k := s.KeyServer; k.LastSync.IsZero() || k.Failing || s.Conversations != 1 || s.Contacts != 1 || k.Counted.IsZero() || k.KeyPackages == 0 || !k.LastResort {
		t.Errorf("%+v, %d conversations, %d contacts", k, s.Conversations, s.Contacts)
	}
	if err := w.KeyServer().Stop(); err != nil {
		t.Fatal(err)
	}
	var k proxy.KeyServerStatus
	for k.State != proxy.SyncBackingOff && t.Context().Err() == nil {
		k = statusOf(t, w).KeyServer
	}
	if !k.Failing || k.LastError == nil || k.RetryAt.IsZero() || k.LastSync.IsZero() ||
		k.LastError.Kind != proxy.FaultUnreachable && k.LastError.Kind != proxy.FaultLost {
		t.Errorf("%+v, last error %+v", k, k.LastError)
	}
	if _, err := w.Person("alice").Device().Gateway().Sync(t.Context(), "ALICE@Example.ORG"); err == nil {
		t.Error("a Sync without a key server succeeded")
	}
	if err := w.KeyServer().Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Person("alice").Device().Gateway().Sync(t.Context(), "ALICE@Example.ORG"); err != nil {
		t.Errorf("Sync: %v", err)
	}
	if k := statusOf(t, w).KeyServer; k.Failing {
		t.Errorf("after a Sync that went through: %+v", k)
	}
	if _, err := w.Person("alice").Device().Gateway().Sync(t.Context(), bob); !errors.Is(err, proxy.ErrNotServed) {
		t.Errorf("Sync of a foreign account: %v", err)
	}
}

// TestGracefulStop: a submission under way when the gateway stops is taken and
// delivered, one that has not begun gets 421, and a session in IDLE gets BYE.
func TestGracefulStop(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	reached, hold := make(chan struct{}), make(chan struct{})
	w.Provider("example.org").Inject(mailtest.Fault{At: mailtest.SMTPReceived, Times: 1, Reached: func() { close(reached) }, Wait: hold})
	idle := watch(t, w.Program("alice"), nil)
	if _, err := idle.Idle(); err != nil {
		t.Fatal(err)
	}
	waits := submission(t, w.Program("alice"))
	sends := submission(t, w.Program("alice"))
	l := letter("last", alice, bob)
	sent := make(chan error, 1)
	go func() { sent <- submit(sends, l) }()
	<-reached
	stopped := make(chan error, 1)
	go func() { stopped <- w.Person("alice").Device().Stop() }()
	<-idle.Closed()
	var reply *smtp.SMTPError
	if err := waits.Noop(); !errors.As(err, &reply) || reply.Code != 421 {
		t.Errorf("an idle SMTP session: %v, want 421", err)
	}
	close(hold)
	if err := <-sent; err != nil {
		t.Errorf("the submission under way: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	opens(t, w, "bob", "INBOX", l)
}

// TestStatusOfARenumberedMailbox: another UIDVALIDITY is told.
func TestStatusOfARenumberedMailbox(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	l := letter("one", bob, alice)
	w.Send("bob", l)
	w.Read("alice", "INBOX", l.MessageID)
	if p := problem(statusOf(t, w), proxy.ProblemRenumbered); p != nil {
		t.Errorf("nothing was renumbered: %+v", p)
	}
	c := watch(t, w.Person("alice").Direct(), nil)
	if err := errors.Join(c.Create("Away", nil).Wait(), w.Program("alice").Append(t.Context(), "Away", nil, l.Bytes())); err != nil {
		t.Fatal(err)
	}
	w.All("alice", "Away")
	if err := errors.Join(c.Delete("Away").Wait(), c.Create("Away", nil).Wait()); err != nil {
		t.Fatal(err)
	}
	if err := w.Program("alice").Append(t.Context(), "Away", nil, l.Bytes()); err != nil {
		t.Fatal(err)
	}
	w.All("alice", "Away")
	if p := problem(statusOf(t, w), proxy.ProblemRenumbered); p == nil || p.Mailbox != "Away" {
		t.Errorf("problems %+v", statusOf(t, w).Problems)
	}
}
