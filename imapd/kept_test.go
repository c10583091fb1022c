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

	"github.com/emersion/go-imap/v2"

	"github.com/cloudmls/gateway/imapd"
)

// askedConn counts the FETCH commands that the provider gets.
type askedConn struct {
	net.Conn
	fetches *atomic.Int64
}

func (c askedConn) Write(p []byte) (int, error) {
	c.fetches.Add(int64(bytes.Count(p, []byte(" FETCH "))))
	return c.Conn.Write(p)
}

// TestKeptMessagesAreAskedForTogether: a list of messages that were opened before
// costs one question to the provider for many of them, and has them in their order.
func TestKeptMessagesAreAskedForTogether(t *testing.T) {
	var fetches atomic.Int64
	w := newWorld(t, func(b *backend, o *imapd.Options) {
		b.dial = func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", b.provider)
			return askedConn{conn, &fetches}, err
		}
	})
	const many = 100
	for range many {
		w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
	}
	c := w.login()
	c.ok("SELECT INBOX")
	const list = "FETCH 1:* (UID FLAGS BODY.PEEK[HEADER])"
	first := c.ok(list)
	fetches.Store(0)
	again := c.ok(list)
	if joined(first) != joined(again) || len(again) != many {
		t.Errorf("%d responses, then %d others", len(first), len(again))
	}
	for i, line := range again {
		if !strings.HasPrefix(line, fmt.Sprintf("* %d FETCH (UID %d ", i+1, i+1)) {
			t.Fatalf("answer %d is %.40q", i+1, line)
		}
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// TestProviderItemsAreBounded: what the provider says of the messages that are
// answered together is in memory together, and so has a limit together.
func TestProviderItemsAreBounded(t *testing.T) {
	w := newWorld(t, func(_ *backend, o *imapd.Options) { o.Limits.ResponseBytes = 64 << 10 })
	for range 100 {
		w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}), imap.Flag(strings.Repeat("x", 1000)))
	}
	c := w.login()
	c.ok("SELECT INBOX")
	c.ok("FETCH 1:* BODY.PEEK[HEADER]")
	c.ok("FETCH 1:50 (FLAGS BODY.PEEK[HEADER])")
	c.send("x FETCH 1:* (FLAGS BODY.PEEK[HEADER])\r\n")
	if got, err := io.ReadAll(c.r); err != nil || !strings.Contains(string(got), "* BYE") {
		t.Errorf("got %d octets, %v", len(got), err)
	}
}
