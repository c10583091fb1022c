package imapd_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/cloudmls/gateway/imapd"
)

// poke delivers plain messages until the idling client is told of something.
// The in-memory provider says "+" a moment before it listens for changes, and
// keeps what happens in that moment until the next change.
func (w *world) poke(c *client, first string) {
	w.t.Helper()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	n := 0
	wg.Go(func() {
		for {
			w.deliver("INBOX", []byte(plainMail))
			n++
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	got := c.line()
	close(stop)
	wg.Wait()
	if first != "" && got != first {
		w.t.Errorf("got %q, want %q", got, first)
	}
	// Read the rest, so that nothing is left in the way.
	last := fmt.Sprintf("* %d EXISTS\r\n", messages(w, "INBOX"))
	for got != last {
		got = c.line()
	}
}

func TestIdle(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", []byte(plainMail))
	c := w.login()
	c.ok("SELECT INBOX")
	c.send("i IDLE\r\n")
	if p := c.line(); !strings.HasPrefix(p, "+") {
		t.Fatalf("got %q", p)
	}
	w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
	w.poke(c, "* 2 EXISTS\r\n")
	// DONE in one packet with what follows.
	c.send("DONE\r\nn NOOP\r\nf UID FETCH 2:* (FLAGS)\r\ng FETCH 2 BODY.PEEK[]\r\nj IDLE\r\n")
	if _, tagged := c.until("i"); !strings.HasPrefix(tagged, "OK") {
		t.Error(tagged)
	}
	c.until("n")
	if got, _ := c.until("f"); !strings.Contains(joined(got), imapd.KeywordVerified) {
		t.Errorf("got %q", got)
	}
	if got, _ := c.until("g"); !strings.Contains(joined(got), "the inner body") {
		t.Errorf("got %q", got)
	}
	if p := c.line(); !strings.HasPrefix(p, "+") {
		t.Fatalf("got %q", p)
	}
	// Flags of a sealed message that change elsewhere.
	w.poke(c, "")
	d := w.direct()
	d.ok("SELECT INBOX")
	d.ok(`STORE 2 +FLAGS (\Flagged $MLSWarning)`)
	if got := c.line(); !strings.Contains(got, imapd.KeywordVerified) || strings.Contains(strings.ToLower(got), "$mlswarning") {
		t.Errorf("got %q", got)
	}
	// Something else than DONE ends it.
	c.send("x NOOP\r\n")
	if _, tagged := c.until("j"); !strings.HasPrefix(tagged, "OK") {
		t.Error(tagged)
	}
	if got := c.line(); !strings.HasPrefix(got, "* BAD") {
		t.Errorf("got %q", got)
	}
	c.ok("NOOP")
}

// TestPipelining sends many commands at once; answers come in order.
func TestPipelining(t *testing.T) {
	w := newWorld(t, nil)
	const n = 60
	for i := range n {
		if i%10 == 5 {
			w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
		} else {
			w.deliver("INBOX", []byte(plainMail))
		}
	}
	c := w.login()
	var text strings.Builder
	text.WriteString("s SELECT INBOX\r\n")
	for i := range n {
		fmt.Fprintf(&text, "p%d UID FETCH %d (FLAGS BODY.PEEK[])\r\n", i, i+1)
	}
	c.send(text.String())
	c.until("s")
	for i := range n {
		got, tagged := c.until(fmt.Sprintf("p%d", i))
		if !strings.HasPrefix(tagged, "OK") || len(got) != 1 {
			t.Fatalf("command %d: %q %q", i, got, tagged)
		}
		if sealed := i%10 == 5; strings.Contains(got[0], "the inner body") != sealed {
			t.Errorf("message %d: %q", i+1, got)
		}
	}
}

// TestStubNeverChanges: what a UID showed it shows for ever; when the message
// opens it gets a new UID.
func TestStubNeverChanges(t *testing.T) {
	index := &imapd.MemoryIndex{}
	w := newWorld(t, func(b *backend, _ *imapd.Options) {
		b.index = index
		b.closed = map[string]bool{"later": true, "never": true}
	})
	inner := "Subject: secret\r\n\r\nopens later\r\n"
	w.deliver("INBOX", []byte(plainMail))
	w.deliver("INBOX", seal([]byte(inner), sealOptions{}), imap.FlagFlagged)
	w.deliver("INBOX", seal([]byte("Subject: x\r\n\r\nnever\r\n"), sealOptions{}))
	c := w.login()
	c.ok("SELECT INBOX")
	stub := c.fetchLiteral("UID FETCH 2 BODY.PEEK[]")
	if !strings.Contains(stub, "cannot be opened") {
		t.Fatalf("got %q", stub)
	}
	if got := flagsOf(c, 2); !strings.Contains(got, imapd.KeywordWarning) || strings.Contains(got, imapd.KeywordVerified) {
		t.Errorf("flags %s", got)
	}
	c.fetchLiteral("UID FETCH 3 BODY.PEEK[]")
	never := c.fetchLiteral("UID FETCH 3 BODY.PEEK[]")

	// Another connection while the first has it open, and a read-only one.
	delete(w.backend.closed, "later")
	if got := c.fetchLiteral("UID FETCH 2 BODY.PEEK[]"); got != stub {
		t.Errorf("stub changed in the same session: %q", got)
	}
	ro := w.login()
	ro.ok("EXAMINE INBOX")
	if got := ro.fetchLiteral("UID FETCH 2 BODY.PEEK[]"); got != stub {
		t.Errorf("stub changed in a read-only mailbox: %q", got)
	}

	d := w.login()
	sel := joined(d.ok("SELECT INBOX"))
	if !strings.Contains(sel, "* 3 EXISTS") || strings.Contains(sel, "EXPUNGE") || strings.Count(sel, "EXISTS") != 1 {
		t.Errorf("SELECT does not show the final state alone:\n%s", sel)
	}
	if got := d.ok("UID FETCH 2 BODY.PEEK[]"); len(got) != 0 {
		t.Errorf("the stub's UID is still there: %q", got)
	}
	if got := d.fetchLiteral("UID FETCH 4 BODY.PEEK[]"); got != statusField+inner {
		t.Errorf("got %q", got)
	}
	if got := value(items(d.ok("UID FETCH 4 FLAGS"), 3), "FLAGS"); !strings.Contains(got, `\flagged`) || strings.Contains(got, `\deleted`) {
		t.Errorf("flags %s", got)
	}
	if got := d.fetchLiteral("UID FETCH 3 BODY.PEEK[]"); got != never {
		t.Errorf("the other stub changed: %q", got)
	}
	// Once.
	d.ok("SELECT INBOX")
	if got := joined(d.ok("UID FETCH 1:* (UID)")); strings.Contains(got, "UID 5") || !strings.Contains(got, "UID 4") {
		t.Errorf("got %q", got)
	}
	// The first session learns of it by EXPUNGE and EXISTS.
	if got := joined(c.ok("NOOP")); !strings.Contains(got, "* 2 EXPUNGE") || !strings.Contains(got, "EXISTS") {
		t.Errorf("got %q", got)
	}
	if got := c.fetchLiteral("UID FETCH 4 BODY.PEEK[]"); got != statusField+inner {
		t.Errorf("got %q", got)
	}
}

// TestFirstFormCounts: connections that have the same mailbox open show the
// same form of a message, and what was shown opened never becomes a stub.
func TestFirstFormCounts(t *testing.T) {
	w := newWorld(t, func(b *backend, _ *imapd.Options) { b.closed = map[string]bool{"first": true, "third": true} })
	w.deliver("INBOX", seal([]byte("Subject: x\r\n\r\nfirst\r\n"), sealOptions{}))
	w.deliver("INBOX", seal([]byte("Subject: x\r\n\r\nsecond\r\n"), sealOptions{}))
	w.deliver("INBOX", seal([]byte("Subject: x\r\n\r\nthird\r\n"), sealOptions{}))
	a, b := w.login(), w.login()
	a.ok("SELECT INBOX")
	b.ok("SELECT INBOX")
	// Flags alone show nothing that could not change.
	if got := flagsOf(b, 1); got != "("+imapd.KeywordEncrypted+")" {
		t.Errorf("flags of what is not open yet: %s", got)
	}
	flagsOf(a, 3)
	stub := a.fetchLiteral("FETCH 1 BODY.PEEK[]")
	open := a.fetchLiteral("FETCH 2 BODY.PEEK[]")
	w.backend.mu.Lock()
	w.backend.closed = map[string]bool{"second": true}
	w.backend.mu.Unlock()
	if got := b.fetchLiteral("FETCH 1 BODY.PEEK[]"); got != stub {
		t.Errorf("stub on one connection, not on the other: %q", got)
	}
	b.expect("FETCH 2 BODY.PEEK[]", "NO [UNAVAILABLE]")
	if got := a.fetchLiteral("FETCH 3 BODY.PEEK[]"); !strings.Contains(got, "third") {
		t.Errorf("a message of which only flags were shown: %q", got)
	}
	if got := flagsOf(b, 3); !strings.Contains(got, imapd.KeywordVerified) {
		t.Errorf("its flags once it is open: %q", got)
	}
	// The same after everyone has left.
	a.ok("LOGOUT")
	b.ok("LOGOUT")
	c := w.login()
	c.ok("EXAMINE INBOX")
	if got := c.fetchLiteral("FETCH 1 BODY.PEEK[]"); got != stub {
		t.Errorf("stub changed: %q", got)
	}
	c.expect("FETCH 2 BODY.PEEK[]", "NO [UNAVAILABLE]")
	w.backend.mu.Lock()
	w.backend.closed = nil
	w.backend.mu.Unlock()
	if got := c.fetchLiteral("FETCH 2 BODY.PEEK[]"); got != open {
		t.Errorf("got %q", got)
	}
}
