package proxy_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/mailtest"
	"github.com/cloudmls/gateway/internal/world"
	"github.com/cloudmls/gateway/proxy"
)

// office is a second mailbox of alice's, on the same gateway once it is added.
const office = "office@example.org"

func withOffice() []world.Spec {
	return append(gatewaytest.Three(), world.Spec{Name: "office", Address: office, Outsider: true})
}

// reload replaces the accounts of alice's gateway; the test fails on an error.
func reload(t *testing.T, w *gatewaytest.World, configs ...proxy.AccountConfig) proxy.ReloadResult {
	t.Helper()
	r, err := w.Person("alice").Device().Gateway().Reload(configs)
	if err != nil {
		t.Fatalf("Reload: %v", err)
	}
	return r
}

func account(w *gatewaytest.World, name string) proxy.AccountConfig {
	return w.Person("alice").Device().Account(w.Person(name))
}

// addOffice makes the second mailbox the user's and an account of the gateway.
func addOffice(t *testing.T, w *gatewaytest.World) {
	t.Helper()
	if err := w.Person("alice").Device().Client().AddAccount(t.Context(), mailAccount(office)); err != nil {
		t.Fatal(err)
	}
	r := reload(t, w, account(w, "alice"), account(w, "office"))
	if strings.Join(r.Added, " ") != office || strings.Join(r.Kept, " ") != alice || len(r.Removed) != 0 {
		t.Fatalf("Reload = %+v", r)
	}
}

// TestReloadKeepsSessions: an IMAP session in IDLE that was opened before goes
// on over a reload that changes everything it may, and gets the news after it.
func TestReloadKeepsSessions(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	news := make(chan uint32, 16)
	c := watch(t, w.Program("alice"), news)
	idle, err := c.Idle()
	if err != nil {
		t.Fatal(err)
	}
	changed := account(w, "alice")
	changed.Policy.Default = proxy.ModeRequire
	changed.CheckPassword = func(p string) bool { return p == "another" }
	changed.IMAP.Addr, changed.SMTP.Addr = "127.0.0.1:1", "127.0.0.1:1"
	if r := reload(t, w, changed); strings.Join(r.Kept, " ") != alice {
		t.Errorf("Reload = %+v", r)
	}
	l := letter("after", bob, alice)
	w.Send("bob", l)
	for n := range news { // ends with the test's deadline
		if n == 1 {
			break
		}
	}
	if err := errors.Join(idle.Close(), idle.Wait()); err != nil {
		t.Fatal(err)
	}
	messages, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{{Peek: true}}}).Collect()
	if err != nil || len(messages) != 1 {
		t.Fatalf("FETCH in the old session: %v, %d messages", err, len(messages))
	}
	if body := messages[0].FindBodySection(&imap.FetchItemBodySection{Peek: true}); !strings.Contains(string(body), l.Body[:len(l.Body)-1]) {
		t.Errorf("the old session opens\n%s", body)
	}
	if _, err := w.Program("alice").IMAP(t.Context()); err == nil {
		t.Error("the old password still opens a new session")
	}
	program := w.Person("alice").Device().Mail()
	program.Password = "another"
	if _, err := program.IMAP(t.Context()); err == nil || !strings.Contains(err.Error(), "could not be reached") {
		t.Errorf("a new session uses the old provider: %v", err)
	}
}

// watch opens a session with INBOX selected and tells how many messages it has.
func watch(t *testing.T, m *world.MailProgram, news chan<- uint32) *imapclient.Client {
	t.Helper()
	conn, err := m.DialIMAP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := imapclient.New(conn, &imapclient.Options{UnilateralDataHandler: &imapclient.UnilateralDataHandler{
		Mailbox: func(d *imapclient.UnilateralDataMailbox) {
			if d.NumMessages != nil && news != nil {
				news <- *d.NumMessages
			}
		},
	}})
	t.Cleanup(func() { _ = c.Close() }) // the test looked at what it wanted
	if err := c.Login(m.Username, m.Password).Wait(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestReloadPolicyAppliesToTheNextMessage: on a connection that was open
// before.
func TestReloadPolicyAppliesToTheNextMessage(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	c := submission(t, w.Program("alice"))
	before := letter("clear", alice, oscar)
	if err := submit(c, before); err != nil {
		t.Fatalf("in clear to an outsider: %v", err)
	}
	changed := account(w, "alice")
	changed.Policy.Default = proxy.ModeRequire
	reload(t, w, changed)
	after := letter("secret", alice, oscar)
	var reply *smtp.SMTPError
	if err := submit(c, after); !errors.As(err, &reply) || reply.Code != 550 {
		t.Errorf("under the policy require: %v, want 550", err)
	}
	if n := len(w.Stored("oscar", "INBOX")); n != 1 {
		t.Errorf("oscar has %d messages, want 1", n)
	}
	// Nor does the connection to the provider outlive its settings.
	changed.SMTP.Addr = "127.0.0.1:1"
	reload(t, w, changed)
	if err := submit(c, letter("sealed", alice, bob)); !errors.As(err, &reply) || reply.Code != 451 || !strings.Contains(reply.Message, "cannot be reached") {
		t.Errorf("over the old connection to the provider: %v, want 451", err)
	}
}

// submission opens a connection, logged in.
func submission(t *testing.T, m *world.MailProgram) *smtp.Client {
	t.Helper()
	conn, err := m.DialSMTP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := smtp.NewClient(conn)
	t.Cleanup(func() { _ = c.Close() }) // the test looked at what it wanted
	if err := c.Hello("localhost"); err != nil {
		t.Fatal(err)
	}
	if err := c.Auth(sasl.NewPlainClient("", m.Username, m.Password)); err != nil {
		t.Fatal(err)
	}
	return c
}

func submit(c *smtp.Client, l world.Letter) error {
	if err := c.Mail(world.BareAddress(l.From), nil); err != nil {
		return err
	}
	for _, r := range l.Recipients() {
		if err := c.Rcpt(r, nil); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := w.Write(l.Bytes()); err != nil {
		return err
	}
	return w.Close()
}

// TestReloadAddsAndRemoves: a new account receives and sends; once removed its
// sessions are told to go and its clients are not let in any more, while those
// of the other account go on.
func TestReloadAddsAndRemoves(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: withOffice()})
	device := w.Person("alice").Device()
	addOffice(t, w)
	program := device.MailOf(w.Person("office"))
	l := letter("hello", bob, office)
	w.Send("bob", l)
	if m, err := program.Find(t.Context(), "INBOX", l.MessageID); err != nil || !strings.Contains(string(m.Content), "This is hello.") {
		t.Fatalf("the new account reads: %v", err)
	}
	stays := watch(t, w.Program("alice"), nil)
	idles := watch(t, program, nil)
	if _, err := idles.Idle(); err != nil {
		t.Fatal(err)
	}
	submits := submission(t, program)
	s := device.Gateway().Status(t.Context())
	if len(s.Accounts) != 2 || s.Accounts[1].Address != office || s.Accounts[1].IMAP.Sessions != 1 || s.Accounts[1].SMTP.Sessions != 1 {
		t.Errorf("status %+v", s.Accounts)
	}
	r := reload(t, w, account(w, "alice"))
	if strings.Join(r.Removed, " ") != office || strings.Join(r.Kept, " ") != alice {
		t.Errorf("Reload = %+v", r)
	}
	<-idles.Closed()
	var reply *smtp.SMTPError
	if err := submits.Noop(); !errors.As(err, &reply) || reply.Code != 421 || !strings.Contains(reply.Message, "removed") {
		t.Errorf("SMTP session of the removed account: %v, want 421", err)
	}
	if _, err := program.IMAP(t.Context()); err == nil || !strings.Contains(err.Error(), "wrong") {
		t.Errorf("IMAP login at the removed account: %v", err)
	}
	if err := program.Send(t.Context(), office, []string{bob}, letter("x", office, bob).Bytes()); !errors.As(err, &reply) || reply.Code != 535 {
		t.Errorf("SMTP login at the removed account: %v", err)
	}
	if err := stays.Noop().Wait(); err != nil {
		t.Errorf("the other account's session: %v", err)
	}
	if s := device.Gateway().Status(t.Context()); len(s.Accounts) != 1 || s.Reloads != 2 {
		t.Errorf("status after the removal: %+v", s)
	}
	addOffice(t, w) // it may come back
	if _, err := program.Find(t.Context(), "INBOX", l.MessageID); err != nil {
		t.Errorf("after it came back: %v", err)
	}
}

// TestReloadRefusesBadConfigurations: whatever is wrong, nothing changes.
func TestReloadRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: withOffice()})
	gateway := w.Person("alice").Device().Gateway()
	good := account(w, "alice")
	good.Policy.Default = proxy.ModeRequire // must not come into effect either
	bad := func(change func(*proxy.AccountConfig)) []proxy.AccountConfig {
		c := account(w, "office")
		change(&c)
		return []proxy.AccountConfig{good, c}
	}
	for name, configs := range map[string][]proxy.AccountConfig{
		"none":           {},
		"twice":          {good, good},
		"no address":     bad(func(c *proxy.AccountConfig) { c.Address = "nobody" }),
		"no client":      bad(func(c *proxy.AccountConfig) { c.Client = nil }),
		"no password":    bad(func(c *proxy.AccountConfig) { c.CheckPassword = nil }),
		"no server":      bad(func(c *proxy.AccountConfig) { c.SMTP.Addr = "" }),
		"policy":         bad(func(c *proxy.AccountConfig) { c.Policy.Default = "maybe" }),
		"rule":           bad(func(c *proxy.AccountConfig) { c.Policy.Domains = map[string]proxy.Mode{"a b": "never"} }),
		"alias":          bad(func(c *proxy.AccountConfig) { c.Aliases = []string{"@"} }),
		"another client": {w.Person("bob").Device().Account(w.Person("alice"))},
	} {
		if _, err := gateway.Reload(configs); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if s := gateway.Status(t.Context()); len(s.Accounts) != 1 || s.Reloads != 0 {
		t.Errorf("status %+v", s)
	}
	w.Send("alice", letter("clear", alice, oscar))
}

// TestReloadKeepsQueuedMail: an account whose mail waits is not removed; once
// it is out it is.
func TestReloadKeepsQueuedMail(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: withOffice()})
	device := w.Person("alice").Device()
	addOffice(t, w)
	remove := w.Provider("example.org").Inject(mailtest.Fault{At: mailtest.SMTPRcpt, Match: bob, Skip: 1, Code: 451, Enhanced: [3]int{4, 2, 0}, Text: "later"})
	defer remove()
	l := letter("half", office, carol)
	l.Bcc = []string{bob}
	if err := device.MailOf(w.Person("office")).Send(t.Context(), office, l.Recipients(), l.Bytes()); err != nil {
		t.Fatal(err)
	}
	_, err := device.Gateway().Reload([]proxy.AccountConfig{account(w, "alice")})
	var queued *proxy.QueuedError
	if !errors.As(err, &queued) || queued.Address != office || queued.Entries != 1 {
		t.Fatalf("Reload = %v, want a QueuedError", err)
	}
	var q proxy.QueueStatus
	for (q.LastError == nil || !q.NextAttempt.After(q.Oldest)) && t.Context().Err() == nil {
		q = device.Gateway().Status(t.Context()).Accounts[1].Queue
	}
	if q.Entries != 1 || q.Octets == 0 || q.Oldest.IsZero() || !q.NextAttempt.After(q.Oldest) || q.LastError.Kind != proxy.FaultRefused || !strings.Contains(q.LastError.Text, "later") {
		t.Errorf("queue %+v, last error %+v", q, q.LastError)
	}
	if got := device.Gateway().Status(t.Context()).Accounts[0].Queue.Entries; got != 0 {
		t.Errorf("%d entries wait for the other account", got)
	}
}

// TestReloadAfterTheEnd: a gateway that has stopped is not changed.
func TestReloadAfterTheEnd(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	device := w.Person("alice").Device()
	gateway, config := device.Gateway(), account(w, "alice")
	if err := device.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := gateway.Reload([]proxy.AccountConfig{config}); !errors.Is(err, proxy.ErrStopped) {
		t.Errorf("Reload = %v, want ErrStopped", err)
	}
}

// TestReloadUnderLoad: submissions and readers go on while the accounts are
// reloaded again and again; every submission gets one answer and arrives.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if _, err := w.Person("alice").Device().Gateway().Reload([]proxy.AccountConfig{account(w, "alice")}); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	c := submission(t, w.Program("alice"))
	var sent []world.Letter
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		l := letter(name, alice, bob)
		if err := submit(c, l); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		sent = append(sent, l)
		w.All("alice", "INBOX")
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("Reload: %v", err)
	}
	for _, l := range sent {
		opens(t, w, "bob", "INBOX", l)
	}
}
