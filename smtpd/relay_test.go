package smtpd

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/internal/mailtest"
)

func TestMessagePassesUnchanged(t *testing.T) {
	for name, security := range map[string]mailtest.Security{
		"implicit tls": mailtest.ImplicitTLS, "starttls": mailtest.StartTLS, "plain loopback": mailtest.Plain,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{provider: mailtest.Options{Security: security}})
			c := w.client()
			for i := range 3 { // mail programs keep the connection
				said, err := send(c, alice, []string{bob, carol, bob}, letter, nil)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(said, "2.0.0 Ok: queued as ") {
					t.Errorf("final reply = %q, want the provider's", said)
				}
				subs := w.provider.Submissions()
				if len(subs) != i+1 || string(subs[i].Content) != letter {
					t.Fatalf("submissions = %+v, want %d with the exact letter", subs, i+1)
				}
				if got := strings.Join(subs[i].Recipients, " "); got != bob+" "+carol {
					t.Errorf("recipients = %s", got)
				}
			}
			if n := len(w.inbox(bob)); n != 3 {
				t.Errorf("bob has %d messages, want 3", n)
			}
			if got := w.account.received()[0]; string(got.content) != letter || got.envelope.Username != alice || got.envelope.EightBit {
				t.Errorf("sealed = %+v", got)
			}
		})
	}
}

func TestLoginMechanism(t *testing.T) {
	w := newWorld(t, worldOptions{})
	c := smtp.NewClient(w.dial())
	if err := c.Auth(sasl.NewLoginClient(alice, secret)); err != nil {
		t.Fatal(err)
	}
	if _, err := send(c, alice, []string{bob}, letter, nil); err != nil {
		t.Fatal(err)
	}
	// Without an initial response, as Outlook does it.
	r := w.raw()
	r.want("220")
	r.say("EHLO x\r\n")
	r.want("250")
	r.say("AUTH LOGIN\r\n")
	r.want("334 VXNlcm5hbWU6")
	r.say("YWxpY2VAZXhhbXBsZS5vcmc=\r\n")
	r.want("334 UGFzc3dvcmQ6")
	r.say("Y2xpZW50LXNlY3JldA==\r\n")
	r.want("235")
}

func TestBDAT(t *testing.T) {
	w := newWorld(t, worldOptions{})
	r := w.rawLogin()
	for range 2 {
		r.say("MAIL FROM:<" + alice + ">\r\n")
		r.want("250")
		r.say("RCPT TO:<" + bob + ">\r\n")
		r.want("250")
		r.say("BDAT 14\r\nSubject: a\r\n\r\n") // ends inside the header
		r.want("250")
		r.say("BDAT 6 LAST\r\nbo.\r\n.")
		if got := r.want("250"); !strings.Contains(got, "queued as") {
			t.Errorf("reply = %q", got)
		}
	}
	want := "Subject: a\r\n\r\nbo.\r\n."
	if got := w.account.received(); len(got) != 2 || string(got[0].content) != want {
		t.Fatalf("content = %+v, want %q", got, want)
	}
	// A split line end is legal, a bare CR is not.
	r.say("MAIL FROM:<" + alice + ">\r\n")
	r.want("250")
	r.say("RCPT TO:<" + bob + ">\r\n")
	r.want("250")
	r.say("BDAT 3\r\nab\r")
	r.want("250")
	r.say("BDAT 1 LAST\r\n\n")
	r.want("250")
	r.say("MAIL FROM:<" + alice + ">\r\n")
	r.want("250")
	r.say("RCPT TO:<" + bob + ">\r\n")
	r.want("250")
	r.say("BDAT 5 LAST\r\na\rb\r\n")
	r.want("554")
	if n := len(w.provider.Submissions()); n != 3 {
		t.Errorf("%d submissions, want 3", n)
	}
}

func TestProviderRepliesAreKept(t *testing.T) {
	for name, tc := range map[string]struct {
		fault mailtest.Fault
		want  string
	}{
		"mail":        {mailtest.Fault{At: mailtest.SMTPMail, Code: 450, Enhanced: [3]int{4, 2, 1}, Text: "slow down, friend"}, "450 4.2.1 slow down, friend\r\n"},
		"rcpt":        {mailtest.Fault{At: mailtest.SMTPRcpt, Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "<x>: unknown in virtual table"}, "550 5.1.1 <x>: unknown in virtual table\r\n"},
		"content":     {mailtest.Fault{At: mailtest.SMTPReceived, Code: 552, Enhanced: [3]int{5, 2, 2}, Text: "over quota"}, "552 5.2.2 over quota\r\n"},
		"no enhanced": {mailtest.Fault{At: mailtest.SMTPReceived, Code: 451, Text: "try later"}, "451 try later\r\n"},
		"two lines":   {mailtest.Fault{At: mailtest.SMTPReceived, Code: 554, Enhanced: [3]int{5, 7, 1}, Text: "5.7.1 spam\nsee http://x.example"}, "554-5.7.1 spam\r\n554 5.7.1 see http://x.example\r\n"},
		"late code":   {mailtest.Fault{At: mailtest.SMTPReceived, Code: 554, Enhanced: [3]int{5, 7, 1}, Text: "spam\nsee"}, "554-spam\r\n554 5.7.1 see\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{})
			w.provider.Inject(tc.fault)
			r := w.rawLogin()
			got := ""
			for _, command := range []string{"MAIL FROM:<" + alice + ">\r\n", "RCPT TO:<" + bob + ">\r\n", "DATA\r\n", letter + ".\r\n"} {
				r.say(command)
				var err error
				if got, err = r.reply(); err != nil {
					t.Fatal(err)
				}
				if got[0] == '4' || got[0] == '5' {
					break
				}
			}
			if got != tc.want {
				t.Errorf("reply = %q, want %q", got, tc.want)
			}
			r.say("RSET\r\n")
			r.want("250") // the session lives on
		})
	}
}

func TestProviderDown(t *testing.T) {
	w := newWorld(t, worldOptions{})
	if err := w.provider.Down(); err != nil {
		t.Fatal(err)
	}
	c := w.client()
	_, err := send(c, alice, []string{bob}, letter, nil)
	wantSMTP(t, err, 451, smtp.EnhancedCode{4, 4, 1}, "cannot be reached")
	if err := w.provider.Up(); err != nil {
		t.Fatal(err)
	}
	if _, err := send(c, alice, []string{bob}, letter, nil); err != nil {
		t.Errorf("after the provider came back: %v", err)
	}
}

func wantSMTP(t *testing.T, err error, code int, enhanced smtp.EnhancedCode, text string) {
	t.Helper()
	var e *smtp.SMTPError
	if !errors.As(err, &e) {
		t.Fatalf("err = %v, want an SMTP reply", err)
	}
	if e.Code != code || e.EnhancedCode != enhanced || !strings.Contains(e.Message, text) {
		t.Errorf("reply = %d %v %q, want %d %v with %q", e.Code, e.EnhancedCode, e.Message, code, enhanced, text)
	}
}

func TestProviderClosesInAnyState(t *testing.T) {
	for _, at := range []mailtest.Point{
		mailtest.SMTPConnect, mailtest.SMTPHello, mailtest.SMTPAuth, mailtest.SMTPMail, mailtest.SMTPRcpt,
		mailtest.SMTPData, mailtest.SMTPContent, mailtest.SMTPReceived, mailtest.SMTPStored,
	} {
		t.Run(string(at), func(t *testing.T) {
			w := newWorld(t, worldOptions{})
			remove := w.provider.Inject(mailtest.Fault{At: at, Close: true})
			c := w.client()
			_, err := send(c, alice, []string{bob}, letter, nil)
			text := "nothing was sent"
			if at == mailtest.SMTPReceived || at == mailtest.SMTPStored || at == mailtest.SMTPContent {
				text = "" // a short message is out in one write: the end of data may be lost or not
			}
			wantSMTP(t, err, 451, smtp.EnhancedCode{4, 4, 2}, text)
			stored := 0
			if at == mailtest.SMTPStored {
				stored = 1
				wantSMTP(t, err, 451, smtp.EnhancedCode{4, 4, 2}, "may have been delivered")
			}
			if n := len(w.inbox(bob)); n != stored {
				t.Errorf("bob has %d messages, want %d", n, stored)
			}
			remove()
			if _, err := send(c, alice, []string{bob}, letter, nil); err != nil {
				t.Errorf("second attempt: %v", err)
			}
			if n := len(w.inbox(bob)); n != stored+1 {
				t.Errorf("bob has %d messages, want %d", n, stored+1)
			}
		})
	}
}

func TestStaleConnectionIsRenewed(t *testing.T) {
	w := newWorld(t, worldOptions{})
	c := w.client()
	for range 3 {
		if _, err := send(c, alice, []string{bob}, letter, nil); err != nil {
			t.Fatal(err)
		}
		// Providers close connections that were idle.
		if err := w.provider.Down(); err != nil {
			t.Fatal(err)
		}
		if err := w.provider.Up(); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(w.inbox(bob)); n != 3 {
		t.Errorf("bob has %d messages, want 3", n)
	}
}

func TestProviderRefusesLogin(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.provider.Inject(mailtest.Fault{At: mailtest.SMTPAuth, Code: 535, Enhanced: [3]int{5, 7, 8}, Text: "bad password"})
	err := w.client().Mail(alice, nil)
	wantSMTP(t, err, 451, smtp.EnhancedCode{4, 7, 0}, "bad password")
}

func TestSMTPUTF8(t *testing.T) {
	for _, offered := range []bool{true, false} {
		w := newWorld(t, worldOptions{provider: mailtest.Options{NoSMTPUTF8: !offered}})
		c := w.client()
		_, err := send(c, alice, []string{bob}, "Subject: gr\u00fc\u00df\r\n\r\n", &smtp.MailOptions{UTF8: true})
		if offered {
			if err != nil {
				t.Error(err)
			} else if s := w.provider.Submissions(); !s[0].UTF8 || !w.account.received()[0].envelope.EightBit {
				t.Error("SMTPUTF8 or 8-bit got lost")
			}
		} else {
			wantSMTP(t, err, 550, smtp.EnhancedCode{5, 6, 7}, "SMTPUTF8")
		}
		r := w.rawLogin()
		r.say("MAIL FROM:<" + alice + ">\r\n")
		r.want("250")
		r.say("RCPT TO:<j\u00fcrgen@example.net>\r\n")
		r.want("553 5.6.7")
	}
}

func TestSizes(t *testing.T) {
	const limit = 1 << 20
	w := newWorld(t, worldOptions{provider: mailtest.Options{MaxMessageBytes: limit}})
	c := w.client()
	capacity := Capacity(limit)
	if sealed := capacity*4/3*78/76 + 64<<10; sealed > limit {
		t.Errorf("a message of %d octets has %d sealed, more than %d", capacity, sealed, limit)
	}
	err := c.Mail(alice, &smtp.MailOptions{Size: capacity + 1})
	wantSMTP(t, err, 552, smtp.EnhancedCode{5, 3, 4}, "encrypted mail")
	if err := c.Mail(alice, &smtp.MailOptions{Size: capacity}); err != nil {
		t.Error(err)
	}
	if err := c.Reset(); err != nil {
		t.Fatal(err)
	}
	// Not declared: found before anything goes to the provider.
	w.account.seal = func(e Envelope, content []byte) ([]Transaction, error) {
		return []Transaction{transaction("t", e, e.Recipients, append(content, content...), true)}, nil
	}
	big := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("y", 76)+"\r\n", 9000)
	_, err = send(c, alice, []string{bob}, big, nil)
	wantSMTP(t, err, 552, smtp.EnhancedCode{5, 3, 4}, "your mail provider takes 1048576 at most")
	if n := len(w.provider.Submissions()); n != 0 {
		t.Errorf("%d submissions, want none", n)
	}
}

func TestLargeMessageThroughDisk(t *testing.T) {
	w := newWorld(t, worldOptions{})
	big := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("z", 70)+"\r\n", 60_000)
	if _, err := send(w.client(), alice, []string{bob}, big, nil); err != nil {
		t.Fatal(err)
	}
	if s := w.provider.Submissions(); len(s) != 1 || string(s[0].Content) != big {
		t.Error("a large message was altered")
	}
}

func TestContentErrorSendsNothing(t *testing.T) {
	for name, content := range map[string]string{"bare lf": "a\nb\r\n", "bare cr": "a\rb\r\n", "short": "a\r\n"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{})
			w.account.seal = func(e Envelope, _ []byte) ([]Transaction, error) {
				x := transaction("t", e, e.Recipients, []byte(content), true)
				if name == "short" {
					x.Size++
				}
				return []Transaction{x}, nil
			}
			c := w.client()
			_, err := send(c, alice, []string{bob}, letter, nil)
			wantSMTP(t, err, 451, smtp.EnhancedCode{4, 3, 0}, "nothing was sent")
			w.account.seal = nil
			if _, err := send(c, alice, []string{bob}, letter, nil); err != nil {
				t.Error(err)
			}
			if n := len(w.provider.Submissions()); n != 1 {
				t.Errorf("%d submissions, want 1", n)
			}
		})
	}
}

func TestSealErrors(t *testing.T) {
	closed := 0
	for name, tc := range map[string]struct {
		seal     func(e Envelope, content []byte) ([]Transaction, error)
		code     int
		enhanced smtp.EnhancedCode
		text     string
	}{
		"refusal": {func(Envelope, []byte) ([]Transaction, error) {
			return nil, &Refusal{Enhanced: [3]int{5, 7, 1}, Text: "no key for bob@example.net"}
		}, 554, smtp.EnhancedCode{5, 7, 1}, "no key for bob"},
		"temporary": {func(Envelope, []byte) ([]Transaction, error) {
			return nil, &Refusal{Enhanced: [3]int{4, 7, 5}, Temporary: true, Text: "line one\r\nline two \u00fc"}
		}, 451, smtp.EnhancedCode{4, 7, 5}, "line one\nline two ?"},
		"refusal that claims success": {func(Envelope, []byte) ([]Transaction, error) {
			return nil, &Refusal{Code: 250, Text: "ok"}
		}, 554, smtp.EnhancedCode{5, 0, 0}, "ok"},
		"internal": {func(Envelope, []byte) ([]Transaction, error) {
			return nil, errors.New("database of " + bob + " is broken")
		}, 451, smtp.EnhancedCode{4, 3, 0}, "internal error"},
		"nothing":   {func(Envelope, []byte) ([]Transaction, error) { return nil, nil }, 451, smtp.EnhancedCode{4, 3, 0}, ""},
		"left out":  {func(e Envelope, c []byte) ([]Transaction, error) { return split(e, c, e.Recipients[:1]), nil }, 451, smtp.EnhancedCode{4, 3, 0}, ""},
		"stranger":  {func(e Envelope, c []byte) ([]Transaction, error) { return split(e, c, append(e.Recipients, dave)), nil }, 451, smtp.EnhancedCode{4, 3, 0}, ""},
		"twice":     {func(e Envelope, c []byte) ([]Transaction, error) { return split(e, c, append(e.Recipients, bob)), nil }, 451, smtp.EnhancedCode{4, 3, 0}, ""},
		"no outbox": {splitSeal, 451, smtp.EnhancedCode{4, 3, 5}, "outbox"},
		"frees": {func(e Envelope, c []byte) ([]Transaction, error) {
			l := split(e, c, e.Recipients)
			l[0].Open = func() (io.ReadCloser, error) { return nil, errors.New("gone") }
			l[0].Close = func() error { closed++; return nil }
			return l, nil
		}, 451, smtp.EnhancedCode{4, 3, 0}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{})
			w.account.seal = tc.seal
			_, err := send(w.client(), alice, []string{bob, carol}, letter, nil)
			wantSMTP(t, err, tc.code, tc.enhanced, tc.text)
			if strings.Contains(err.Error(), "database") {
				t.Errorf("the client reads internals: %v", err)
			}
			if n := len(w.provider.Submissions()); n != 0 {
				t.Errorf("%d submissions, want none", n)
			}
		})
	}
	if closed != 1 {
		t.Errorf("Close was called %d times, want once", closed)
	}
}

func split(e Envelope, content []byte, rcpts []string) []Transaction {
	return []Transaction{transaction("t", e, rcpts, content, true)}
}

func TestRecipientPolicy(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.account.policy = func(rcpt string) error {
		if rcpt == bob {
			return &Refusal{Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "not to bob"}
		}
		return nil
	}
	_, err := send(w.client(), alice, []string{carol, bob}, letter, nil)
	wantSMTP(t, err, 550, smtp.EnhancedCode{5, 7, 1}, "not to bob")
}

func TestLongLines(t *testing.T) {
	w := newWorld(t, worldOptions{})
	c := w.client()
	long := "Subject: x\r\n\r\n" + strings.Repeat("l", MaxPlainLine+1) + "\r\n"
	_, err := send(c, alice, []string{bob}, long, nil)
	wantSMTP(t, err, 554, smtp.EnhancedCode{5, 6, 0}, "998")
	w.account.seal = splitSeal // what will be sealed may have long lines
	if _, err := send(c, alice, []string{bob}, long, nil); err != nil {
		t.Error(err)
	}
	w.account.seal = nil
	if _, err := send(c, alice, []string{bob}, strings.Repeat("l", MaxPlainLine)+"\r\n", nil); err != nil {
		t.Errorf("a line of exactly %d octets: %v", MaxPlainLine, err)
	}
}

// sealing is an account that knows of some recipients that they get sealed mail.
type sealing struct{ *testAccount }

func (sealing) MustSeal(rcpt string) bool { return rcpt == bob }

type sealingBackend struct{ account sealing }

func (b sealingBackend) Login(context.Context, string, string) (Account, error) {
	return b.account, nil
}

// TestSizeOfWhatMustBeSealed: between what the provider takes sealed and what it
// takes in clear, the recipient decides, before the content.
func TestSizeOfWhatMustBeSealed(t *testing.T) {
	const limit = 1 << 20
	w := newWorld(t, worldOptions{provider: mailtest.Options{MaxMessageBytes: limit}})
	w.start(Options{
		Backend: sealingBackend{sealing{w.account}}, OversizePlain: true, SpoolDir: t.TempDir(),
		TLSConfig: w.server.o.TLSConfig,
	})
	c := w.client()
	wantSMTP(t, c.Mail(alice, &smtp.MailOptions{Size: limit + 1}), 552, smtp.EnhancedCode{5, 3, 4}, "")
	if err := c.Mail(alice, &smtp.MailOptions{Size: Capacity(limit) + 1}); err != nil {
		t.Fatal(err)
	}
	wantSMTP(t, c.Rcpt(bob, nil), 552, smtp.EnhancedCode{5, 3, 4}, "always encrypted")
	if err := c.Rcpt(carol, nil); err != nil {
		t.Errorf("mail in clear that fits: %v", err)
	}
	if err := c.Mail(alice, &smtp.MailOptions{Size: Capacity(limit)}); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt(bob, nil); err != nil {
		t.Errorf("a message that fits: %v", err)
	}
}
