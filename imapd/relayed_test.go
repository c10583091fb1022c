package imapd_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/imapd/session"
)

// scriptedProvider is a provider that answers commands by a table, "TAG" standing
// for the tag, and notes every line that it reads.
type scriptedProvider struct {
	answers map[string]string

	mu    sync.Mutex
	lines []string
}

// relayedTo returns a client of a relay before such a provider, with INBOX
// selected if the table knows that.
func relayedTo(t *testing.T, answers map[string]string) (*client, *scriptedProvider) {
	t.Helper()
	p := &scriptedProvider{answers: answers}
	addr := fakeProvider(t, func(conn net.Conn) {
		io.WriteString(conn, "* OK [CAPABILITY IMAP4rev1 LITERAL+ IDLE ENABLE QRESYNC] ready\r\n")
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			p.mu.Lock()
			p.lines = append(p.lines, strings.TrimRight(line, "\r\n"))
			p.mu.Unlock()
			tag, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
			answer, ok := p.answers[rest]
			switch {
			case strings.HasPrefix(rest, "LOGIN "):
				answer = "TAG OK [CAPABILITY IMAP4rev1 LITERAL+ IDLE ENABLE QRESYNC UTF8=ACCEPT] in\r\n"
			case !ok && tag != "DONE":
				answer = "TAG OK done\r\n"
			}
			io.WriteString(conn, strings.ReplaceAll(answer, "TAG", tag))
		}
	})
	w := newWorld(t, func(b *backend, _ *imapd.Options) { b.provider = addr })
	c := w.login()
	if _, ok := answers["SELECT INBOX"]; ok {
		c.ok("SELECT INBOX")
	}
	return c, p
}

// saw returns what the provider was told, in lines.
func (p *scriptedProvider) saw() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.lines)
}

const emptyBox = "* FLAGS (\\Seen)\r\n* 0 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 1] x\r\nTAG OK [READ-WRITE] selected\r\n"

// TestIdleBeginsWithItsContinuation: what the provider tells in the same packet
// as "+" stands behind it.
func TestIdleBeginsWithItsContinuation(t *testing.T) {
	c, _ := relayedTo(t, map[string]string{
		"SELECT INBOX": emptyBox,
		"IDLE":         "+ idling\r\n* 1 EXISTS\r\n* 1 RECENT\r\n",
	})
	c.send("i IDLE\r\n")
	for _, want := range []string{"+ idling\r\n", "* 1 EXISTS\r\n", "* 1 RECENT\r\n"} {
		if got := c.line(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestRefusedLiteral: the provider is asked before a literal is sent, of whatever
// kind the client's is. One that is refused could be read there as a command.
func TestRefusedLiteral(t *testing.T) {
	c, p := relayedTo(t, map[string]string{"SETMETADATA nowhere (/private/comment {9}": "TAG NO no such mailbox\r\n"})
	c.send("a SETMETADATA nowhere (/private/comment {9}\r\n")
	if got := c.line(); !strings.HasPrefix(got, "+") {
		t.Fatalf("got %q", got)
	}
	c.send("a NOOP xxx)\r\n")
	if got := c.line(); got != "a NO no such mailbox\r\n" {
		t.Errorf("got %q", got)
	}
	c.send("b SETMETADATA nowhere (/private/comment {9+}\r\na NOOP xxx)\r\n")
	if got := c.line(); got != "b NO no such mailbox\r\n" {
		t.Errorf("got %q", got)
	}
	c.ok("NOOP")
	for _, l := range p.saw() {
		if strings.Contains(l, "NOOP xxx") {
			t.Errorf("the provider read the literal as a command: %q", p.saw())
		}
	}
}

// TestEnableHidden: the provider is not told of extensions that are hidden.
func TestEnableHidden(t *testing.T) {
	c, p := relayedTo(t, nil)
	c.ok("ENABLE QRESYNC utf8=accept CONDSTORE")
	c.ok("ENABLE UTF8=ACCEPT")
	got := strings.ToUpper(strings.Join(p.saw(), "\n"))
	if strings.Contains(got, "UTF8") || !strings.Contains(got, "ENABLE QRESYNC X-HIDDEN CONDSTORE") {
		t.Errorf("the provider was told %s", got)
	}
}

// TestVanishedWithoutKnownUIDs: QRESYNC enabled with a mailbox of plain mail open,
// whose UIDs nobody had to know.
func TestVanishedWithoutKnownUIDs(t *testing.T) {
	plain := `("TEXT" "PLAIN" NIL NIL NIL "7BIT" 3 1)`
	structures := ""
	for n := 1; n <= 4; n++ {
		structures += fmt.Sprintf("* %d FETCH (UID %d BODYSTRUCTURE %s)\r\n", n, 10*n, plain)
	}
	c, p := relayedTo(t, map[string]string{
		"SELECT INBOX":                  "* FLAGS (\\Seen)\r\n* 4 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 41] x\r\nTAG OK [READ-WRITE] selected\r\n",
		"FETCH 1:4 (UID BODYSTRUCTURE)": structures + "TAG OK done\r\n",
		"FETCH 4 (UID)":                 "* 4 FETCH (UID 40)\r\nTAG OK done\r\n",
		"ENABLE QRESYNC":                "* ENABLED QRESYNC\r\nTAG OK done\r\n",
		"NOOP":                          "* VANISHED 20,40\r\n* 3 EXISTS\r\nTAG OK done\r\n",
		"FETCH 3 (UID BODYSTRUCTURE)":   "* 3 FETCH (UID 50 BODYSTRUCTURE " + plain + ")\r\nTAG OK done\r\n",
		"FETCH 1:3 (UID)":               "* 1 FETCH (UID 10)\r\n* 2 FETCH (UID 30)\r\n* 3 FETCH (UID 50)\r\nTAG OK done\r\n",
		"FETCH 1:* (FLAGS)":             "* 1 FETCH (FLAGS ())\r\n* 2 FETCH (FLAGS ())\r\n* 3 FETCH (FLAGS ())\r\nTAG OK done\r\n",
	})
	c.ok("ENABLE QRESYNC")
	c.ok("NOOP")
	if got := c.ok("FETCH 1:* (FLAGS)"); len(got) != 3 {
		t.Errorf("got %q", got)
	}
	if saw := p.saw(); !slices.ContainsFunc(saw, func(l string) bool { return strings.HasSuffix(l, " FETCH 3 (UID BODYSTRUCTURE)") }) {
		t.Errorf("the relay did not look at the third message: %q", saw)
	}
}

// TestHighestModSeqOfOurOwnCommands reaches the client: the provider tells it once.
func TestHighestModSeqOfOurOwnCommands(t *testing.T) {
	c, _ := relayedTo(t, map[string]string{
		"SELECT INBOX": emptyBox,
		"NOOP":         "* 1 EXISTS\r\nTAG OK done\r\n",
		"FETCH 1 (UID BODYSTRUCTURE)": "* 1 FETCH (UID 5 BODYSTRUCTURE (\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 3 1))\r\n" +
			"TAG OK [HIGHESTMODSEQ 99] done\r\n",
		"FETCH 1 (UID)":     "* 1 FETCH (UID 5)\r\nTAG OK done\r\n",
		"FETCH 1:* (FLAGS)": "* 1 FETCH (FLAGS ())\r\nTAG OK done\r\n",
	})
	c.ok("NOOP")
	if got := c.ok("FETCH 1:* (FLAGS)"); !slices.Equal(got, []string{"* OK [HIGHESTMODSEQ 99] done\r\n", "* 1 FETCH (FLAGS ())\r\n"}) {
		t.Errorf("got %q", got)
	}
}

// TestSelectRefusedWithBad: whether the mailbox is still open is for the provider
// to say. Where it is, what was shown of its messages goes on to hold.
func TestSelectRefusedWithBad(t *testing.T) {
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprintf("closed %v", closed), func(t *testing.T) {
			bad := "TAG BAD no\r\n"
			if closed {
				bad = "* OK [CLOSED] bye\r\n" + bad
			}
			c, p := relayedTo(t, map[string]string{
				"SELECT INBOX":                emptyBox,
				`SELECT "broken`:              bad,
				"NOOP":                        "* 1 EXISTS\r\nTAG OK done\r\n",
				"FETCH 1:* (FLAGS)":           "TAG OK done\r\n",
				"FETCH 1 (UID BODYSTRUCTURE)": "* 1 FETCH (UID 5 BODYSTRUCTURE (\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 3 1))\r\nTAG OK done\r\n",
				"FETCH 1 (UID)":               "* 1 FETCH (UID 5)\r\nTAG OK done\r\n",
			})
			c.expect(`SELECT "broken`, "BAD no")
			c.ok("NOOP")
			c.ok("FETCH 1:* (FLAGS)")
			asked := slices.ContainsFunc(p.saw(), func(l string) bool { return strings.HasSuffix(l, "FETCH 1 (UID BODYSTRUCTURE)") })
			if asked == closed {
				t.Errorf("new message looked at: %v; the provider saw %q", asked, p.saw())
			}
		})
	}
}

// TestThreat80_LocalLimits: the limits of design security 8.1 and 8.2 are the
// defaults.
func TestThreat80_LocalLimits(t *testing.T) {
	l := session.Limits{}.WithDefaults()
	if l.LoginTimeout.Seconds() != 10 || l.MaxPreAuth != 8 || l.MaxConns != 64 || l.MaxFailures != 5 || l.FailureDelay.Seconds() != 30 {
		t.Errorf("defaults are %+v", l)
	}
	t.Run("silence instead of a TLS handshake", func(t *testing.T) {
		config, _ := certificate(t)
		w := newWorld(t, func(_ *backend, o *imapd.Options) {
			o.TLSConfig = config
			o.Limits.LoginTimeout = 50 * time.Millisecond
			o.Limits.MaxPreAuth = 1
		})
		if rest := dial(t, w.addr).closed(); rest != "" {
			t.Errorf("got %q", rest)
		}
	})
	t.Run("all connections", func(t *testing.T) {
		w := newWorld(t, func(_ *backend, o *imapd.Options) { o.Limits.MaxConns = 2 })
		w.login()
		w.login()
		if rest := dial(t, w.addr).closed(); rest != "" {
			t.Errorf("third connection got %q", rest)
		}
	})
}

// TestPauseBetweenCommands: the time that octets within a command may take is no
// limit on the time between commands.
func TestPauseBetweenCommands(t *testing.T) {
	const progress = 100 * time.Millisecond
	w := newWorld(t, func(_ *backend, o *imapd.Options) { o.Limits.Progress = progress })
	c := w.login()
	c.send("a NO")
	time.Sleep(progress / 4) // so that the rest is read by itself
	c.send("OP\r\n")
	c.until("a")
	time.Sleep(3 * progress)
	c.ok("NOOP")
}

// TestOddFetch: a FETCH that the relay does not understand is the provider's to
// answer, after the relay has looked at the messages.
func TestOddFetch(t *testing.T) {
	c, p := relayedTo(t, map[string]string{
		"SELECT INBOX":                emptyBox,
		"NOOP":                        "* 1 EXISTS\r\nTAG OK done\r\n",
		"FETCH 1":                     "TAG BAD what of it\r\n",
		"FETCH 1 ODD[":                "* 1 FETCH (BODY[] {3}\r\nraw)\r\nTAG OK done\r\n",
		"FETCH 1 (UID BODYSTRUCTURE)": "* 1 FETCH (UID 5 BODYSTRUCTURE (\"TEXT\" \"PLAIN\" NIL NIL NIL \"7BIT\" 3 1))\r\nTAG OK done\r\n",
		"FETCH 1 (UID)":               "* 1 FETCH (UID 5)\r\nTAG OK done\r\n",
	})
	c.ok("NOOP")
	if got := c.ok("FETCH 1 ODD["); len(got) != 1 || !strings.Contains(got[0], "raw") {
		t.Errorf("got %q", got)
	}
	saw := p.saw()
	looked := slices.IndexFunc(saw, func(l string) bool { return strings.HasSuffix(l, "FETCH 1 (UID BODYSTRUCTURE)") })
	if looked < 0 || !strings.HasSuffix(saw[len(saw)-1], "FETCH 1 ODD[") {
		t.Errorf("the message was shown before it was looked at: %q", saw)
	}
	c.expect("FETCH 1", "BAD what of it")
}
