package imapd_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloudmls/gateway/imapd"
)

const damagedStub = "This message cannot be opened: damaged\r\n"

// set changes the backend while sessions use it.
func (b *backend) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// isExplained checks that all items of a message are those of a stub with this
// text.
func isExplained(t *testing.T, c *client, seq int, text string) {
	t.Helper()
	got := items(c.ok(fmt.Sprintf("FETCH %d (FLAGS RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT])", seq)), seq)
	whole := statusField + "Subject: [sealed]\r\n\r\n" + text
	for name, want := range map[string]string{
		"FLAGS":        "(" + imapd.KeywordEncrypted + " " + imapd.KeywordWarning + ")",
		"RFC822.SIZE":  fmt.Sprint(len(whole)),
		"BODY[]":       fmt.Sprintf("{%d}\r\n%s", len(whole), whole),
		"BODY[TEXT]":   fmt.Sprintf("{%d}\r\n%s", len(text), text),
		"BODY[HEADER]": fmt.Sprintf("{%d}\r\n%s", len(whole)-len(text), whole[:len(whole)-len(text)]),
	} {
		if v := value(got, name); v != want {
			t.Errorf("message %d, %s: %.300q, want %q", seq, name, v, want)
		}
	}
	if v := value(got, "ENVELOPE"); !strings.Contains(v, "[sealed]") {
		t.Errorf("message %d, ENVELOPE: %.300q", seq, v)
	}
	if v := value(got, "BODYSTRUCTURE"); !strings.HasPrefix(v, `("text" "plain"`) {
		t.Errorf("message %d, BODYSTRUCTURE: %.300q", seq, v)
	}
}

// damagedWorld has messages of all kinds, the third of which breaks far inside.
func damagedWorld(t *testing.T) (*world, []string) {
	w := newWorld(t, func(_ *backend, o *imapd.Options) { o.SpoolDir = t.TempDir(); o.Limits.SpoolMemory = 100_000 })
	large := string(attachment(600_000))
	w.deliver("INBOX", []byte(plainMail))
	w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
	w.deliver("INBOX", seal([]byte(large), sealOptions{bulk: true}))
	w.deliver("INBOX", seal([]byte(large), sealOptions{bulk: true}))
	w.deliver("INBOX", []byte(plainMail))
	w.backend.corrupt = map[uint32]int64{3: 300_000}
	return w, []string{plainMail, statusField + innerMail, "", statusField + large, plainMail}
}

// TestDamagedBulkIsExplained: content that turns out altered while it is read is
// an explanation in the very response that asks for it, and ever after; all
// others of the range are delivered, and no connection is cut.
func TestDamagedBulkIsExplained(t *testing.T) {
	w, want := damagedWorld(t)
	c, other := w.login(), w.login()
	for _, c := range []*client{c, other} {
		c.ok("SELECT INBOX")
		// Found from the control part alone, before anybody reads the bulk part.
		got := items(c.ok("FETCH 3 (FLAGS RFC822.SIZE ENVELOPE)"), 3)
		if !strings.Contains(value(got, "FLAGS"), imapd.KeywordVerified) || !strings.Contains(value(got, "ENVELOPE"), "file") {
			t.Fatalf("before: %v", got)
		}
	}
	whole := statusField + "Subject: [sealed]\r\n\r\n" + damagedStub
	got := c.ok("FETCH 1:* (RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY[])")
	for i, octets := range want {
		if i+1 == 3 {
			octets = whole
		}
		list := items(got, i+1)
		if value(list, "BODY[]") != fmt.Sprintf("{%d}\r\n%s", len(octets), octets) || value(list, "RFC822.SIZE") != fmt.Sprint(len(octets)) {
			t.Errorf("message %d: size %s, %.200q", i+1, value(list, "RFC822.SIZE"), value(list, "BODY[]"))
		}
	}
	list := items(got, 3)
	if f := value(list, "FLAGS"); strings.Contains(f, imapd.KeywordVerified) || !strings.Contains(f, imapd.KeywordWarning) || !strings.Contains(strings.ToLower(f), `\seen`) {
		t.Errorf("the client is told of the flags %s", f)
	}
	if !strings.Contains(value(list, "ENVELOPE"), "[sealed]") {
		t.Errorf("ENVELOPE in the same response: %s", value(list, "ENVELOPE"))
	}
	c.ok("STORE 1:* FLAGS ()")
	isExplained(t, c, 3, damagedStub)
	if f := flagsOf(other, 3); strings.Contains(f, imapd.KeywordVerified) {
		t.Errorf("flags on another connection: %s", f)
	}
	isExplained(t, other, 3, damagedStub)
	// For good: on later connections, and when the content is whole again.
	c.ok("LOGOUT")
	other.ok("LOGOUT")
	w.backend.set(func() { w.backend.corrupt = nil })
	c = w.login()
	c.ok("SELECT INBOX")
	if f := flagsOf(c, 3); strings.Contains(f, imapd.KeywordVerified) {
		t.Errorf("flags later: %s", f)
	}
	isExplained(t, c, 3, damagedStub)
	if got := c.fetchLiteral("FETCH 4 BODY.PEEK[]"); got != want[3] {
		t.Errorf("the whole one: %d octets", len(got))
	}
}

// TestDamageBehindAPartial: pieces verify what they cover, and no more.
func TestDamageBehindAPartial(t *testing.T) {
	for _, item := range []string{"BODY.PEEK[]<400000.100>", "BODY.PEEK[]<200000.150000>", "BODY.PEEK[2]", "RFC822.TEXT", "(RFC822.SIZE BODY.PEEK[TEXT]<100.400000>)"} {
		w, want := damagedWorld(t)
		c := w.login()
		c.ok("SELECT INBOX")
		for _, n := range []int{100, 100_000, 250_000} {
			if got := c.fetchLiteral(fmt.Sprintf("FETCH 4 BODY.PEEK[]<1000.%d>", n)); got != want[3][1000:1000+n] {
				t.Errorf("%d octets before the damage differ", n)
			}
		}
		c.ok("FETCH 3 " + item)
		if strings.Contains(item, "TEXT") && strings.HasPrefix(item, "RFC") {
			c.ok(`STORE 3 FLAGS ()`)
		}
		isExplained(t, c, 3, damagedStub)
	}
}

// TestAlteredAfterItWasShown: a message that opened once and never does again
// is explained, not refused for ever; one that does not open for now is not
// replaced.
func TestAlteredAfterItWasShown(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
	w.deliver("INBOX", []byte(plainMail))
	c := w.login()
	c.ok("SELECT INBOX")
	c.ok("FETCH 1 BODY.PEEK[]")
	c.ok("LOGOUT")
	w.backend.set(func() { w.backend.closed = map[string]bool{"": true} })
	c = w.login()
	c.ok("SELECT INBOX")
	c.expect("FETCH 1:2 BODY.PEEK[]", "NO [UNAVAILABLE]")
	w.backend.set(func() { w.backend.closed, w.backend.never = nil, true })
	isExplained(t, c, 1, "This message cannot be opened: invalid\r\n")
	w.backend.set(func() { w.backend.never = false })
	c.ok("LOGOUT")
	c = w.login()
	c.ok("SELECT INBOX")
	isExplained(t, c, 1, "This message cannot be opened: invalid\r\n")
}

// mutilated are sealed messages of which something is left.
func mutilated() map[string]string {
	small, large := string(seal([]byte(innerMail), sealOptions{})), string(seal(attachment(90_000), sealOptions{bulk: true}))
	second := strings.Index(large, "\r\n--sep\r\nContent-Type: application/octet-stream")
	noSecond := large[:second] + "\r\n--sep--\r\n"
	control := strings.Index(small, "base64\r\n\r\n") + len("base64\r\n\r\n")
	end := strings.Index(small[control:], "\r\n--sep") + control
	return map[string]string{
		"control part not base64":     small[:control] + strings.Repeat("!*$ \r\n", 30) + small[end:],
		"control part empty":          small[:control] + small[end:],
		"control part of other type":  strings.Replace(large, "Content-Type: application/vnd.cloudmls.control\r\n", "Content-Type: text/plain\r\n", 1),
		"cut off in the bulk part":    large[:len(large)/2],
		"cut off before the end":      large[:len(large)-len("\r\n--sep--\r\n")-40],
		"second part missing":         noSecond,
		"cut off in the control part": large[:second-2],
	}
}

// TestMutilatedMessages: whatever is left of a sealed message, it is explained
// and keeps nothing else of the range back.
func TestMutilatedMessages(t *testing.T) {
	for name, m := range mutilated() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			w.deliver("INBOX", []byte(plainMail))
			w.deliver("INBOX", []byte(m))
			w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
			for range 2 {
				c := w.login()
				c.ok("SELECT INBOX")
				got := c.ok("FETCH 1:* (FLAGS RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[])")
				if len(got) != 3 || !strings.Contains(joined(got), "plain body") {
					t.Errorf("%d responses: %.600q", len(got), got)
				}
				if v := value(items(got, 3), "BODY[]"); !strings.Contains(v, innerMail) {
					t.Errorf("the next message: %.300q", v)
				}
				list := items(got, 2)
				if v := value(list, "BODY[]"); !strings.Contains(v, "cannot be opened") || strings.Contains(value(list, "FLAGS"), imapd.KeywordVerified) {
					t.Errorf("not explained: %s %.300q", value(list, "FLAGS"), v)
				}
				if v := value(list, "RFC822.SIZE"); v == fmt.Sprint(len(m)) {
					t.Errorf("size of the stored message: %s", v)
				}
				c.ok("LOGOUT")
			}
		})
	}
}

// countedConn counts what the provider sends.
type countedConn struct {
	net.Conn
	n *atomic.Int64
}

func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// TestBulkIsFetchedOnce: large content comes from the provider once, however it
// is asked for, and the spool leaves nothing behind.
func TestBulkIsFetchedOnce(t *testing.T) {
	var octets atomic.Int64
	dir := t.TempDir()
	w := newWorld(t, func(b *backend, o *imapd.Options) {
		o.SpoolDir = dir
		o.Limits.KeepAlive = 1
		b.dial = func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "tcp", b.provider)
			return countedConn{conn, &octets}, err
		}
	})
	inner := attachment(4 << 20)
	stored := seal(inner, sealOptions{bulk: true})
	w.deliver("INBOX", stored)
	want := statusField + string(inner)
	c := w.login()
	c.ok("SELECT INBOX")
	c.ok("FETCH 1 RFC822.SIZE")
	octets.Store(0)
	got := c.ok("FETCH 1 (BODY.PEEK[2] BODY.PEEK[] BODY.PEEK[TEXT] BODY.PEEK[]<1000000.2000000>)")
	if !strings.HasPrefix(got[0], "* OK [INPROGRESS] ") {
		t.Errorf("nothing is said while the message is read: %.100q", got[0])
	}
	list := items(got, 1)
	if value(list, "BODY[]") != fmt.Sprintf("{%d}\r\n%s", len(want), want) || !strings.HasSuffix(value(list, "BODY[]<1000000>"), want[1_000_000:3_000_000]) {
		t.Error("content differs")
	}
	if n := octets.Load(); n > int64(len(stored))*11/10 {
		t.Errorf("%d octets came for a message of %d", n, len(stored))
	}
	octets.Store(0)
	if c.fetchLiteral("FETCH 1 BODY.PEEK[]") != want || octets.Load() > 10_000 {
		t.Errorf("%d octets came for a message that was just read", octets.Load())
	}
	c.ok("CLOSE")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
