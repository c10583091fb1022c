package crash

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/stack"
)

// talk is a submission that a test speaks line by line.
type talk struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func newTalk(t *testing.T, g *stack.Gateway, user string) *talk {
	t.Helper()
	conn, err := dial(g, g.SMTP)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	c := &talk{t, conn, bufio.NewReader(conn)}
	c.reply("220")
	c.say("EHLO client.test", "250")
	c.say("AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+g.Password)), "235")
	return c
}

// say sends a line and returns the reply, which must begin as wanted.
func (c *talk) say(line, want string) string {
	c.t.Helper()
	if _, err := c.conn.Write([]byte(line + "\r\n")); err != nil {
		c.t.Fatal(err)
	}
	return c.reply(want)
}

func (c *talk) reply(want string) string {
	c.t.Helper()
	var all strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		all.WriteString(line)
		if err != nil {
			c.t.Fatalf("after %q: %v", all.String(), err)
		}
		if len(line) < 4 || line[3] != '-' {
			break
		}
	}
	if !strings.HasPrefix(all.String(), want) {
		c.t.Errorf("reply %q, want %s", all.String(), want)
	}
	return all.String()
}

func (c *talk) begin(rcpt ...string) {
	c.t.Helper()
	c.say("MAIL FROM:<"+stack.Alice+">", "250")
	for _, r := range rcpt {
		c.say("RCPT TO:<"+r+">", "250")
	}
	c.say("DATA", "354")
}

// TestPostfix: submissions to the real thing.
func TestPostfix(t *testing.T) {
	lab.Need(t)
	b := newBench(t)
	b.sent(t, stack.Erin)

	t.Run("its words are kept", func(t *testing.T) {
		c := newTalk(t, b.a, stack.Alice)
		c.say("MAIL FROM:<"+stack.Alice+">", "250")
		c.say("RCPT TO:<nobody@a.test>", "550 5.1.1 <nobody@a.test>: Recipient address rejected: User unknown")
		c.say("RCPT TO:<somebody@elsewhere.test>", "55")
		c.say("RCPT TO:<"+stack.Erin+">", "250") // the others stand
		c.say("DATA", "354")
		canary, msg := letter("<words@crash.test>", stack.Alice, []string{stack.Erin}, "", 400)
		b.load.begin(&attempt{id: "<words@crash.test>", from: stack.Alice, to: []string{stack.Erin}, canary: canary, msg: msg, answered: true})
		c.say(string(bytes.ReplaceAll(msg, []byte("\r\n."), []byte("\r\n..")))+".", "250 2.0.0 Ok: queued as ")
	})
	t.Run("SIZE", func(t *testing.T) {
		c := newTalk(t, b.a, stack.Alice)
		c.say("MAIL FROM:<"+stack.Alice+"> SIZE=52428801", "552 5.3.4")
		c.say("MAIL FROM:<"+stack.Alice+"> SIZE=1000000", "250")
	})
	t.Run("SMTPUTF8", func(t *testing.T) {
		c := newTalk(t, b.a, stack.Alice)
		c.say("MAIL FROM:<"+stack.Alice+"> SMTPUTF8", "250")
		c.say("RCPT TO:<"+stack.Erin+">", "250")
		c.say("RSET", "250")
	})
	t.Run("DSN", func(t *testing.T) {
		// A success report for each, the blind copy in the outbox included.
		c := newTalk(t, b.a, stack.Alice)
		c.say("MAIL FROM:<"+stack.Alice+"> RET=HDRS ENVID=CRASH-7", "250")
		c.say("RCPT TO:<"+stack.Erin+"> NOTIFY=SUCCESS ORCPT=rfc822;"+stack.Erin, "250")
		c.say("RCPT TO:<"+stack.Frank+"> NOTIFY=SUCCESS", "250")
		c.say("DATA", "354")
		canary, msg := letter("<dsn@crash.test>", stack.Alice, []string{stack.Erin}, "", 400)
		b.load.begin(&attempt{id: "<dsn@crash.test>", from: stack.Alice, to: []string{stack.Erin, stack.Frank}, canary: canary, msg: msg, answered: true})
		c.say(string(bytes.ReplaceAll(msg, []byte("\r\n."), []byte("\r\n..")))+".", "250")
		d := lab.Direct(t, stack.Alice)
		for deadline := time.Now().Add(stack.Deadline); ; time.Sleep(100 * time.Millisecond) {
			d.OK("SELECT INBOX")
			reports := d.Search(`BODY "CRASH-7"`)
			if len(reports) >= 2 {
				break
			}
			if time.Now().After(deadline) {
				t.Errorf("%d reports with the envelope id came, want two", len(reports))
				break
			}
		}
	})
	t.Run("smuggling", func(t *testing.T) {
		const smuggled = "MAIL FROM:<" + stack.Alice + ">\r\nRCPT TO:<" + stack.Frank + ">\r\nDATA\r\nMessage-ID: <smuggled@crash.test>\r\n\r\nx"
		for _, variant := range []string{
			"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\r\r\n.\r\n", "\r\n.\r\r\n", "\r\n\x00.\r\n", "\x00", "\n", "\r",
		} {
			c := newTalk(t, b.a, stack.Alice)
			c.begin(stack.Erin)
			c.say("Message-ID: <carrier@crash.test>\r\n\r\nbody"+variant+smuggled+"\r\n.", "554 5.6.0")
		}
		for _, header := range []string{"Subject: a\nBcc: x@y.test\r\n", "Subject: a\rBcc: x@y.test\r\n", "Subject: \x00\r\n"} {
			c := newTalk(t, b.a, stack.Alice)
			c.begin(stack.Erin)
			c.say(header+"Message-ID: <carrier@crash.test>\r\n\r\nbody\r\n.", "554 5.6.0")
		}
		// A line that is too long in clear, and one that is too long at all.
		for to, n := range map[string]int{stack.Bob: 999, stack.Erin: 128<<10 + 1} {
			c := newTalk(t, b.a, stack.Alice)
			c.begin(to)
			c.say("From: <"+stack.Alice+">\r\nTo: <"+to+">\r\nMessage-ID: <carrier@crash.test>\r\n\r\n"+strings.Repeat("x", n)+"\r\n.", "554 5.6.0")
		}
		last := b.sent(t, stack.Erin, stack.Frank)
		for _, person := range []string{stack.Erin, stack.Frank, stack.Bob} {
			d := lab.Direct(t, person)
			if person != stack.Bob {
				d.Arrives("INBOX", last.id) // whatever went before has arrived too
			}
			d.OK("SELECT INBOX")
			for _, id := range []string{"<carrier@crash.test>", "<smuggled@crash.test>"} {
				if uids := d.Search(`HEADER Message-ID "` + id + `"`); len(uids) > 0 {
					t.Errorf("%s is at %s", id, person)
				}
			}
		}
	})
	t.Run("50 MB in clear and 30 MB sealed stream", func(t *testing.T) {
		line := strings.Repeat("0123456789", 7) + "\r\n"
		for to, size := range map[string]int{stack.Bob: 50_000_000, stack.Erin: 30_000_000} {
			id := fmt.Sprintf("<large.%d@crash.test>", size)
			canary, msg := letter(id, stack.Alice, []string{to}, "", 400)
			msg = append(msg, strings.Repeat(line, size/len(line))...)
			a := b.load.begin(&attempt{id: id, from: stack.Alice, to: []string{to}, canary: canary, msg: msg})
			before := memory(t, b.a)
			if err := b.load.end(a, submit(b.a, stack.Alice, a.to, msg)); err != nil {
				t.Errorf("%d octets: %v", size, err)
				continue
			}
			grown := peak(t, b.a) - before
			t.Logf("%d octets: %d KiB more at peak", size, grown>>10)
			if grown > 16<<20 {
				t.Errorf("%d octets took %d of memory", size, grown)
			}
			c := lab.Direct(t, to)
			uid := c.Arrives("INBOX", id)
			if to == stack.Bob { // sent in clear: octet for octet behind the providers' fields
				if raw := c.Fetch(uid, "BODY.PEEK[]").Str; !bytes.HasSuffix(raw, msg) {
					t.Errorf("%d octets in clear were altered", size)
				}
				b.load.all = b.load.all[:len(b.load.all)-1]
			}
		}
	})
	b.whole(t)
}

// memory is how much of the gateway is in memory now; the peak begins anew.
func memory(t *testing.T, g *stack.Gateway) int {
	t.Helper()
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", g.PID()), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
	return status(t, g, "VmRSS:")
}

func peak(t *testing.T, g *stack.Gateway) int { return status(t, g, "VmHWM:") }

// status reads a size of /proc/PID/status, in octets.
func status(t *testing.T, g *stack.Gateway, field string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.PID()))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), field)
	words := strings.Fields(rest)
	if len(words) == 0 {
		t.Fatalf("no %s in %s", field, b)
	}
	kib, err := strconv.Atoi(words[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
