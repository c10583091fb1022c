package imapd_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/imapd"
)

// faultConn is the relay's connection to the provider with a fault in what
// the provider says, after a number of octets.
type faultConn struct {
	net.Conn
	after  int
	insert []byte // put there; nil cuts the connection
	done   bool

	octets    atomic.Int64 // that were read
	closeOnce sync.Once
	closed    chan struct{}
}

func (c *faultConn) Read(p []byte) (int, error) {
	if c.done || c.after < 0 {
		return c.Conn.Read(p)
	}
	if c.after == 0 {
		if c.insert == nil {
			return 0, io.EOF
		}
		n := copy(p, c.insert)
		c.insert = c.insert[n:]
		c.done = len(c.insert) == 0
		return n, nil
	}
	n, err := c.Conn.Read(p[:min(len(p), c.after)])
	c.after -= n
	c.octets.Add(int64(n))
	return n, err
}

func (c *faultConn) Close() error {
	c.closeOnce.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// faultWorld is a world in which the provider's connection has a fault.
func faultWorld(t testing.TB, after int, insert []byte, tune func(*imapd.Options)) (*world, *faultConn) {
	fault := &faultConn{after: after, insert: insert, closed: make(chan struct{})}
	w := newWorld(t, func(b *backend, o *imapd.Options) {
		b.dial = func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", b.provider)
			if err != nil {
				return nil, err
			}
			fault.Conn = conn
			return fault, nil
		}
		if tune != nil {
			tune(o)
		}
	})
	w.deliver("INBOX", []byte(plainMail))
	w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
	w.deliver("INBOX", seal(attachment(3000), sealOptions{bulk: true}))
	return w, fault
}

// session runs a client through every kind of command and returns all that it
// gets until the connection ends.
func runSession(t testing.TB, w *world) string {
	conn, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(testWait))
	go func() {
		fmt.Fprintf(conn, "a LOGIN %s %q\r\nb SELECT INBOX\r\nc FETCH 1:* (FLAGS BODY.PEEK[])\r\n", userName, clientPass)
		fmt.Fprintf(conn, "d UID FETCH 1:* (UID RFC822.SIZE ENVELOPE)\r\ne STORE 1 +FLAGS (\\Seen)\r\nf SEARCH ALL\r\n")
		fmt.Fprintf(conn, "g APPEND Sent {%d+}\r\n%s\r\nh IDLE\r\nDONE\r\ni NOOP\r\nj LOGOUT\r\n", len(plainMail), plainMail)
	}()
	got, err := io.ReadAll(conn)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("session hangs: %v after %q", err, got)
	}
	return string(got)
}

// providerOctets is how much the provider says in runSession.
func providerOctets(t *testing.T) int {
	const plenty = 1 << 20
	w, fault := faultWorld(t, plenty, nil, nil)
	got := runSession(t, w)
	if !strings.Contains(got, "j OK") {
		t.Fatalf("session without fault: %q", got)
	}
	<-fault.closed
	return int(fault.octets.Load())
}

// TestProviderCutsAnywhere cuts the provider's connection at many places: the
// client gets a clear end, nothing hangs, and nothing sealed is shown.
func TestProviderCutsAnywhere(t *testing.T) {
	total := providerOctets(t)
	for at := 0; at < total; at += 61 {
		w, _ := faultWorld(t, at, nil, nil)
		got := runSession(t, w)
		checkEnd(t, fmt.Sprintf("cut at %d", at), got)
	}
}

func checkEnd(t *testing.T, name, got string) {
	t.Helper()
	if strings.Contains(got, "vnd.cloudmls") {
		t.Errorf("%s: sealed form was shown: %q", name, got)
	}
	if strings.Contains(got, "cannot be opened") {
		t.Errorf("%s: taken for damage: %q", name, got)
	}
	end := got[max(0, len(got)-200):]
	switch {
	case strings.Contains(got, "j OK"), strings.Contains(end, "* BYE [UNAVAILABLE] "), strings.Contains(end, "* BYE Too many"), strings.Contains(end, "* BYE Logging out"):
	case strings.Contains(got, "a NO [UNAVAILABLE] "):
	default:
		t.Errorf("%s: no clear end: ...%q", name, end)
	}
}

// TestProviderSendsGarbage puts octets that are no IMAP into what the provider
// says.
func TestProviderSendsGarbage(t *testing.T) {
	total := providerOctets(t)
	limit := func(o *imapd.Options) {
		o.Limits.ResponseBytes = 100_000
		o.Limits.Progress = 2 * time.Second
	}
	for _, garbage := range []string{"\xff\x00\x01 garbage\r\n", "X9 OK forged\r\n", "+ again\r\n", "\r\n", "* \r\n",
		strings.Repeat("x", 150_000), "* 1 FETCH (BODY[] {99999999}\r\n", "* 4294967295 EXPUNGE\r\n* 0 EXPUNGE\r\n* 99 EXISTS\r\n"} {
		for at := 40; at < total; at += 397 {
			w, _ := faultWorld(t, at, []byte(garbage), limit)
			got := runSession(t, w)
			if len(got) == 0 {
				t.Errorf("%.20q at %d: no answer", garbage, at)
			}
		}
	}
}

func TestProviderDownOrSilent(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := ln.Addr().String()
	ln.Close()
	w := newWorld(t, func(b *backend, _ *imapd.Options) { b.provider = down })
	c := dial(t, w.addr)
	c.line()
	c.expect(fmt.Sprintf("LOGIN %s %q", userName, clientPass), "NO [UNAVAILABLE] The mail provider could not be reached")

	for name, says := range map[string]string{
		"nothing":   "",
		"not IMAP":  "220 smtp.example.org ESMTP\r\n",
		"BYE":       "* BYE too many connections\r\n",
		"greeting":  "* OK hello\r\n",
		"no mechs":  "* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] hello\r\n",
		"long line": strings.Repeat("x", 100_000),
		"chatter":   "* OK [CAPABILITY IMAP4rev1] hello\r\n" + strings.Repeat("* OK still here\r\n", 500),
	} {
		addr := fakeProvider(t, func(conn net.Conn) {
			io.WriteString(conn, says)
			io.Copy(io.Discard, conn)
		})
		w := newWorld(t, func(b *backend, o *imapd.Options) {
			b.provider = addr
			o.Limits.DialTimeout = 200 * time.Millisecond
		})
		c := dial(t, w.addr)
		c.line()
		if _, tagged := c.do(fmt.Sprintf("LOGIN %s %q", userName, clientPass)); !strings.HasPrefix(tagged, "NO [UNAVAILABLE] The mail provider") {
			t.Errorf("%s: %q", name, tagged)
		}
	}

	// Signed in, and then no answer any more.
	w, _ = faultWorld(t, -1, nil, func(o *imapd.Options) { o.Limits.Progress = 100 * time.Millisecond })
	addr := fakeProvider(t, func(conn net.Conn) {
		io.WriteString(conn, "* PREAUTH [CAPABILITY IMAP4rev1] hello\r\n")
		io.Copy(io.Discard, conn)
	})
	w.backend.dial = nil
	w.backend.provider = addr
	for _, cmd := range []string{"NOOP", "SELECT INBOX", "APPEND Sent {3}\r\nabc", "APPEND Sent {3+}\r\nabc", "IDLE\r\nDONE", "LIST \"\" {1+}\r\n*"} {
		c := w.login()
		c.send("x " + cmd + "\r\n")
		if rest := c.closed(); !strings.Contains(rest, "* BYE [UNAVAILABLE] ") {
			t.Errorf("%s: %q", cmd, rest)
		}
	}
}

// TestProviderRefusesSignIn: the provider's own words reach the person.
func TestProviderRefusesSignIn(t *testing.T) {
	w := newWorld(t, nil)
	w.backend.upstream = &imapd.Upstream{Username: userName, Password: func(context.Context) (string, error) { return "old password", nil }}
	c := dial(t, w.addr)
	c.line()
	c.expect(fmt.Sprintf("LOGIN %s %q", userName, clientPass), "NO [UNAVAILABLE] The mail provider refused the gateway's sign-in: ")
	w.backend.upstream.Password = func(context.Context) (string, error) { return "a\r\nb LOGOUT", nil }
	c.expect(fmt.Sprintf("LOGIN %s %q", userName, clientPass), "NO [UNAVAILABLE] ")
	w.backend.upstream = nil
	c.ok(fmt.Sprintf("LOGIN %s %q", userName, clientPass))
}

// TestClientStopsReading: the relay does not collect what a client does not
// take, and gives up at last.
func TestClientStopsReading(t *testing.T) {
	w, fault := faultWorld(t, -1, nil, func(o *imapd.Options) { o.Limits.Progress = 2 * time.Second })
	w.deliver("INBOX", append([]byte("Subject: huge\r\n\r\n"), bytes.Repeat([]byte("0123456789abcdef\r\n"), 2_000_000)...))
	c := w.login()
	c.ok("SELECT INBOX")
	c.send("x FETCH 4 BODY.PEEK[]\r\n")
	select {
	case <-fault.closed:
	case <-time.After(testWait):
		t.Fatal("the connection to the provider is still open")
	}
}

// TestSlowClient reads a large message in small pieces, each well within the
// progress limit, all of them together beyond it.
func TestSlowClient(t *testing.T) {
	const progress = time.Second
	w, _ := faultWorld(t, -1, nil, func(o *imapd.Options) { o.Limits.Progress = progress })
	inner := attachment(3 << 20)
	w.deliver("INBOX", seal(inner, sealOptions{bulk: true}))
	c := w.login()
	c.ok("SELECT INBOX")
	start := time.Now()
	c.send("x FETCH 4 BODY.PEEK[]\r\n")
	line, err := c.r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	n, ok := literalSize(line)
	if !ok {
		t.Fatalf("got %q", line)
	}
	got := make([]byte, 0, n)
	pause := time.NewTicker(progress / 6)
	defer pause.Stop()
	for int64(len(got)) < n {
		piece := make([]byte, min(n-int64(len(got)), 1<<19))
		if _, err := io.ReadFull(c.r, piece); err != nil {
			t.Fatalf("after %v and %d octets: %v", time.Since(start), len(got), err)
		}
		got = append(got, piece...)
		<-pause.C
	}
	want := append([]byte(statusField), inner...)
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("content differs at %d of %d, %d", i, len(want), len(got))
		}
	}
	if d := time.Since(start); d < progress {
		t.Errorf("test was too fast to mean anything: %v", d)
	}
}
