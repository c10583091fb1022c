package smtpd

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/internal/mailtest"
)

// endOfData are octets that some mail systems take for the end of a message
// and others do not.
var endOfData = map[string]string{
	`\n.\n`:           "\n.\n",
	`\n.\r\n`:         "\n.\r\n",
	`\r\n.\n`:         "\r\n.\n",
	`\r.\r`:           "\r.\r",
	`\r.\r\n`:         "\r.\r\n",
	`\r\n.\r`:         "\r\n.\r",
	`\r\r\n.\r\n`:     "\r\r\n.\r\n",
	`\r\n\r.\r\n`:     "\r\n\r.\r\n",
	`\r\n.\x00\r\n`:   "\r\n.\x00\r\n",
	`\x00\r\n..\r\n`:  "\x00\r\n..\r\n",
	`\n\n.\r\n`:       "\n\n.\r\n",
	`\r\n.\r\r\n`:     "\r\n.\r\r\n",
	`\r at the end`:   "x\r",
	`\r\n.\rX inside`: "\r\n.\rX",
}

func TestThreat75_EndOfDataVariants(t *testing.T) {
	const smuggled = "MAIL FROM:<alice@example.org>\r\nRCPT TO:<carol@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"
	for name, variant := range endOfData {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, worldOptions{server: Options{Timeouts: Timeouts{Linger: 100 * time.Millisecond}}})
			r := w.rawLogin()
			r.say("MAIL FROM:<" + alice + ">\r\n")
			r.want("250")
			r.say("RCPT TO:<" + bob + ">\r\n")
			r.want("250")
			r.say("DATA\r\n")
			r.want("354")
			r.say("Subject: x\r\n\r\nfirst" + variant + smuggled + "\r\n.\r\n")
			got := r.want("554")
			if !strings.Contains(got, "5.6.0") {
				t.Errorf("reply = %q, want 554 5.6.0", got)
			}
			if n := len(w.account.received()); n != 0 {
				t.Errorf("%d messages were sealed, want none", n)
			}
			// The provider receives exactly one message: the next, clean one.
			if _, err := send(w.client(), alice, []string{bob}, letter, nil); err != nil {
				t.Fatal(err)
			}
			subs := w.provider.Submissions()
			if len(subs) != 1 || string(subs[0].Content) != letter {
				t.Errorf("the provider got %+v, want the clean message alone", subs)
			}
			if n := len(w.inbox(carol)); n != 0 {
				t.Errorf("a smuggled message arrived")
			}
		})
	}
}

// The client is told even where go-smtp never sees the end of the message.
func TestThreat75_NoHangWithoutEnd(t *testing.T) {
	w := newWorld(t, worldOptions{server: Options{Timeouts: Timeouts{Linger: 50 * time.Millisecond}}})
	r := w.rawLogin()
	r.say("MAIL FROM:<" + alice + ">\r\n")
	r.want("250")
	r.say("RCPT TO:<" + bob + ">\r\n")
	r.want("250")
	r.say("DATA\r\n")
	r.want("354")
	r.say("a\r\r\n.\r\n")
	r.want("554")
	r.wantClosed()
}

// A client that sends the content together with DATA gets no way around the
// check either.
func TestThreat75_ReadAhead(t *testing.T) {
	w := newWorld(t, worldOptions{server: Options{Timeouts: Timeouts{Linger: 50 * time.Millisecond}}})
	r := w.rawLogin()
	r.say("MAIL FROM:<" + alice + ">\r\nRCPT TO:<" + bob + ">\r\nDATA\r\nSubject: x\r\n\r\na\r\n.\rb\r\n.\r\n")
	r.want("250")
	r.want("250")
	r.want("354")
	r.want("554")
	if n := len(w.provider.Submissions()); n != 0 {
		t.Errorf("%d submissions, want none", n)
	}
}

func TestThreat77_NoSecondCommand(t *testing.T) {
	hostile := []string{
		"a\rRCPT TO:<carol@example.net>", "a\x00b", "a\tb", "a> SIZE=1 <b", "a b", "a\x7fb", "\u0085", "a\u2028b",
	}
	for _, local := range hostile {
		for _, addr := range []string{local + "@example.net", `"` + local + `"@example.net`, "a@" + local, "a@x" + local + ".example"} {
			w := newWorld(t, worldOptions{plain: true, provider: mailtest.Options{Security: mailtest.Plain}})
			r := w.rawLogin()
			r.say("MAIL FROM:<" + alice + ">\r\n")
			r.want("250")
			r.say("RCPT TO:<" + addr + ">\r\n")
			got, err := r.reply()
			if err != nil || got[0] != '5' {
				// A quoted local part may be legal; then it must stay quoted,
				// and the provider knows no such user.
				t.Errorf("RCPT with %q: %q, %v; want a refusal", addr, got, err)
			}
			if n := len(w.account.received()); n != 0 {
				t.Errorf("%q reached sealing", addr)
			}
		}
	}
	for addr, want := range map[string]string{
		`a b@example.net`:       `"a b"@example.net`,
		`a> SIZE=1 <b@x.y`:      `"a> SIZE=1 <b"@x.y`,
		`a"b\c@x.y`:             `"a\"b\\c"@x.y`,
		`.a@x.y`:                `".a"@x.y`,
		`o'hara+x@[127.0.0.1]`:  `o'hara+x@[127.0.0.1]`,
		`x@xn--bcher-kva.test`:  `x@xn--bcher-kva.test`,
		`x@[IPv6:2001:db8::1]`:  `x@[IPv6:2001:db8::1]`,
		"a\rb@x.y":              "",
		"a@x.y> SIZE=9":         "",
		"a@x.y\r\nRCPT TO:<b@c": "",
		"a@":                    "",
		"@x.y":                  "",
		"a@x..y":                "",
		"a@x.y.":                "",
	} {
		got, err := wireAddress(addr, false)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("wireAddress(%q) = %q, %v; want %q", addr, got, err, want)
		}
		if want != "" {
			if again, err := recheckAddress(got, false); err != nil || again != want {
				t.Errorf("recheckAddress(%q) = %q, %v", got, again, err)
			}
		}
	}
}

// The other direction: what the provider says cannot become a second reply.
func TestThreat77_ProviderText(t *testing.T) {
	w := newWorld(t, worldOptions{})
	w.provider.Inject(mailtest.Fault{At: mailtest.SMTPReceived, Code: 554, Enhanced: [3]int{5, 7, 1}, Text: "no\r250 yes\x00\x1b[31m"})
	_, err := send(w.client(), alice, []string{bob}, letter, nil)
	if err == nil || strings.ContainsAny(err.Error(), "\r\x00\x1b") {
		t.Errorf("err = %q, want it without control characters", err)
	}
}

func TestThreat78_BrowserPost(t *testing.T) {
	w := newWorld(t, worldOptions{plain: true})
	for _, verb := range []string{"POST", "GET", "PUT", "OPTIONS", "CONNECT", "PRI", "post"} {
		r := w.raw()
		r.want("220")
		r.say(verb + " / HTTP/1.1\r\nHost: localhost\r\n\r\nEHLO x\r\nAUTH PLAIN " +
			base64.StdEncoding.EncodeToString([]byte("\x00"+alice+"\x00"+secret)) + "\r\nMAIL FROM:<" + alice + ">\r\n")
		r.wantClosed()
	}
	if n := len(w.account.received()); n != 0 {
		t.Error("a posted message was sealed")
	}
	// Split over packets it is the same.
	r := w.raw()
	r.want("220")
	for _, c := range []string{"P", "OS", "T", " ", "/ HTTP/1.1\r\n"} {
		if _, err := r.conn.Write([]byte(c)); err != nil {
			break // closed already
		}
	}
	r.wantClosed()
}

func TestThreat78_ALPN(t *testing.T) {
	w := newWorld(t, worldOptions{})
	for _, tc := range []struct {
		protos []string
		ok     bool
	}{{[]string{"h2", "http/1.1"}, false}, {[]string{"http/1.1"}, false}, {[]string{"imap"}, false}, {nil, true}, {[]string{"smtp"}, true}} {
		config := w.tls.Clone()
		config.NextProtos = tc.protos
		conn, err := tls.Dial("tcp", w.addr, config)
		if (err == nil) != tc.ok {
			t.Errorf("ALPN %v: %v, want accepted = %v", tc.protos, err, tc.ok)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
}

func TestThreat78_ThreeBadCommands(t *testing.T) {
	w := newWorld(t, worldOptions{plain: true})
	r := w.raw()
	r.want("220")
	r.say(strings.Repeat("XYZZY foo\r\n", 10))
	r.wantClosed()
}

func TestThreat80_NothingWithoutPassword(t *testing.T) {
	w := newWorld(t, worldOptions{plain: true})
	r := w.raw()
	r.want("220")
	r.say("EHLO x\r\n")
	r.want("250")
	r.say("MAIL FROM:<" + alice + ">\r\n")
	r.want("530")
	r.say("RCPT TO:<" + bob + ">\r\n")
	r.want("502")
	r.say("DATA\r\n")
	r.want("502")
	r.say("BDAT 3 LAST\r\nabc")
	r.want("502")
	r.say("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+alice+"\x00wrong")) + "\r\n")
	r.want("535")
	r.say("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("root\x00"+alice+"\x00"+secret)) + "\r\n")
	r.want("535") // another authorization identity
	if n := len(w.account.received()); n != 0 {
		t.Error("something was sealed without a login")
	}
}

func TestThreat80_BruteForceIsSlowed(t *testing.T) {
	w := newWorld(t, worldOptions{plain: true})
	var mu sync.Mutex
	var waits []time.Duration
	w.server.throttle.wait = func(_ context.Context, d time.Duration) error {
		mu.Lock()
		defer mu.Unlock()
		waits = append(waits, d)
		return nil
	}
	try := func(password, want string) {
		r := w.raw()
		defer r.conn.Close()
		r.want("220")
		r.say("EHLO x\r\n")
		r.want("250")
		r.say("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+alice+"\x00"+password)) + "\r\n")
		r.want(want)
		r.say("QUIT\r\n")
		r.wantClosed()
	}
	for range FreeLoginFailures {
		try("wrong", "535")
	}
	if len(waits) != 0 {
		t.Errorf("held back too early: %v", waits)
	}
	try("wrong", "535")
	try("wrong", "535")
	if len(waits) != 2 || waits[0] != 30*time.Second {
		t.Errorf("waits = %v, want two of 30 s", waits)
	}
	try(secret, "235") // the owner is not locked out
	if len(waits) != 2 {
		t.Errorf("a right password was held back")
	}
	try("wrong", "535")
	if len(waits) != 2 {
		t.Errorf("failures were not forgotten after a success")
	}
}

func TestThreat80_Listeners(t *testing.T) {
	server, err := New(Options{Backend: testBackend{}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Serve(ln); err == nil || !strings.Contains(err.Error(), "loopback") {
		t.Errorf("Serve on 0.0.0.0 = %v, want a refusal", err)
	}
	if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the refused listener is still open: %v", err)
	}
}

func TestThreat80_StrangersAreBounded(t *testing.T) {
	w := newWorld(t, worldOptions{plain: true, server: Options{Timeouts: Timeouts{Login: 300 * time.Millisecond}}})
	owner := w.rawLogin()
	var strangers []*raw
	for range MaxUnauthenticated {
		r := w.raw()
		r.want("220")
		strangers = append(strangers, r)
	}
	w.raw().wantClosed() // one too many
	owner.say("NOOP\r\n")
	owner.want("250")
	for _, r := range strangers {
		r.wantClosed() // they ran out of time to log in
	}
	owner.say("NOOP\r\n")
	owner.want("250")
}

func TestThreat82_LogsHoldNoAddresses(t *testing.T) {
	var log lockedBuffer
	w := newWorld(t, worldOptions{server: Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}})
	w.provider.Inject(mailtest.Fault{At: mailtest.SMTPRcpt, Match: carol, Code: 550, Text: "no " + carol})
	c := w.client()
	_, _ = send(c, alice, []string{bob}, "Subject: CANARY\r\n\r\nCANARY\r\n", nil)
	_, _ = send(c, alice, []string{carol}, letter, nil)
	w.account.seal = func(Envelope, []byte) ([]Transaction, error) { return nil, errors.New("CANARY " + bob) }
	_, _ = send(c, alice, []string{bob}, letter, nil)
	r := w.raw()
	r.want("220")
	r.say("EHLO x\r\n")
	r.want("250")
	r.say("AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00"+alice+"\x00CANARY")) + "\r\n")
	r.want("535")
	for _, canary := range []string{"CANARY", bob, carol, alice, secret, "provider-secret"} {
		if strings.Contains(log.String(), canary) {
			t.Errorf("the log holds %q:\n%s", canary, log.String())
		}
	}
	if !strings.Contains(log.String(), "submission refused") {
		t.Error("the log holds nothing at all")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
