package imapd_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/imapd"
)

// bulkConn counts what is asked of bulk parts and what comes, and breaks after so
// many octets.
type bulkConn struct {
	net.Conn
	asked, octets *atomic.Int64
	breakAfter    int64 // 0 for never
}

func (c bulkConn) Write(p []byte) (int, error) {
	c.asked.Add(int64(bytes.Count(p, []byte("BODY.PEEK[2]<"))))
	return c.Conn.Write(p)
}

func (c bulkConn) Read(p []byte) (int, error) {
	if c.breakAfter > 0 && c.octets.Load() >= c.breakAfter {
		c.Conn.Close()
		return 0, io.ErrUnexpectedEOF
	}
	n, err := c.Conn.Read(p)
	c.octets.Add(int64(n))
	return n, err
}

// aheadWorld has one large message, and a connection to the provider that counts.
func aheadWorld(t *testing.T, size int, breakAfter int64, keepAlive time.Duration) (w *world, asked, octets *atomic.Int64, want string) {
	t.Helper()
	asked, octets = new(atomic.Int64), new(atomic.Int64)
	w = newWorld(t, func(b *backend, o *imapd.Options) {
		o.Limits.KeepAlive = keepAlive
		b.dial = func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", b.provider)
			return bulkConn{conn, asked, octets, breakAfter}, err
		}
	})
	inner := attachment(size)
	w.deliver("INBOX", seal(inner, sealOptions{bulk: true}))
	return w, asked, octets, statusField + string(inner)
}

// TestLargeContentIsReadAhead: the provider is asked for a large message in a few
// long ranges.
func TestLargeContentIsReadAhead(t *testing.T) {
	w, asked, octets, want := aheadWorld(t, 6<<20, 0, 0)
	c := w.login()
	c.ok("SELECT INBOX")
	c.ok("FETCH 1 RFC822.SIZE") // the test's backend reads all of it to open it
	asked.Store(0)
	octets.Store(0)
	if got := c.fetchLiteral("FETCH 1 BODY.PEEK[]"); got != want {
		t.Fatalf("content differs: %d octets, want %d", len(got), len(want))
	}
	if n := asked.Load(); n == 0 || n > 8 {
		t.Errorf("asked %d times", n)
	}
	if n := octets.Load(); n > int64(len(want))*3/2 { // base64
		t.Errorf("%d octets came for %d", n, len(want))
	}
}

// TestReadingAheadEndsForOtherCommands: content that is read in pieces, with other
// commands between them, is the same, and little of it is fetched in vain.
func TestReadingAheadEndsForOtherCommands(t *testing.T) {
	w, _, octets, want := aheadWorld(t, 6<<20, 0, 0)
	w.deliver("INBOX", []byte(plainMail))
	c := w.login()
	c.ok("SELECT INBOX")
	c.ok("FETCH 1 RFC822.SIZE")
	octets.Store(0)
	const piece = 50_000
	for off := 0; off < len(want); off += piece {
		command := fmt.Sprintf("FETCH 1 BODY.PEEK[]<%d.%d>", off, piece)
		if got := c.fetchLiteral(command); got != want[off:min(off+piece, len(want))] {
			t.Fatalf("%s: content differs", command)
		}
		if got := joined(c.ok("FETCH 2 (FLAGS BODY.PEEK[HEADER])")); !strings.Contains(got, "* 2 FETCH") {
			t.Fatalf("after %s: %q", command, got)
		}
		c.ok("NOOP")
	}
	if n := octets.Load(); n > int64(len(want))*2 {
		t.Errorf("%d octets came for %d", n, len(want))
	}
}

// TestConnectionEndsWhileReadAhead: neither the provider's end in the middle of
// what is read ahead nor the client's leaves anything waiting, and nothing of the
// message is served.
func TestConnectionEndsWhileReadAhead(t *testing.T) {
	for _, after := range []int64{600_000, 1_100_000, 2_000_001, 5_000_000} {
		w, _, _, _ := aheadWorld(t, 6<<20, after, 0)
		c := w.login()
		c.ok("SELECT INBOX")
		c.send("x FETCH 1 BODY.PEEK[]\r\n")
		got, err := io.ReadAll(c.r)
		if err != nil || strings.Contains(string(got), "FETCH (") || !strings.Contains(string(got), "* BYE") {
			t.Errorf("provider gone after %d octets: %.200q, %v", after, got, err)
		}
	}
	// The client is told at each step that its command goes on, so that it shows
	// in the middle when it is gone.
	w, asked, _, _ := aheadWorld(t, 12<<20, 0, 1)
	c := w.login()
	c.ok("SELECT INBOX")
	c.ok("FETCH 1 RFC822.SIZE")
	asked.Store(0)
	c.send("x FETCH 1 BODY.PEEK[]\r\n")
	for deadline := time.Now().Add(testWait); asked.Load() < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is read ahead")
		}
	}
	c.conn.Close() // Shutdown, at the test's end, waits for the session
}

// TestReadingAheadEndsForTheNextMessage: within one command, too, what is read ahead
// of one message is not in the way of another.
func TestReadingAheadEndsForTheNextMessage(t *testing.T) {
	w, _, _, want := aheadWorld(t, 6<<20, 0, 0)
	w.deliver("INBOX", seal(attachment(6<<20), sealOptions{bulk: true}))
	c := w.login()
	c.ok("SELECT INBOX")
	c.ok("FETCH 1:2 RFC822.SIZE")
	got := c.ok("FETCH 1:2 BODY.PEEK[]<100000.3000000>")
	for seq := 1; seq <= 2; seq++ {
		if value(items(got, seq), "BODY[]<100000>") != "{3000000}\r\n"+want[100_000:3_100_000] {
			t.Errorf("content of message %d differs", seq)
		}
	}
}
