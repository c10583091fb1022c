package crash

import (
	"errors"
	"fmt"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/cloudmls/gateway/test/stack"
)

// bench is a stack on which faults are tried one after the other.
type bench struct {
	*stack.Stack
	t    *testing.T
	a, b *stack.Gateway
	load *load
	n    int
}

func newBench(t *testing.T) *bench {
	s := stack.New(t, lab)
	return &bench{
		Stack: s, t: t, a: s.AddUser("alice", stack.Alice), b: s.AddUser("erin", stack.Erin, stack.Frank),
		load: &load{why: map[string]int{}},
	}
}

// letter sends one letter and gives its attempt.
func (b *bench) letter(to, blind []string, size int) (*attempt, error) {
	b.n++
	id := fmt.Sprintf("<fault.%d.%s@crash.test>", b.n, strings.NewReplacer("/", ".", "_", ".").Replace(b.t.Name()))
	err := b.load.send(b.a, id, stack.Alice, to, blind, "", size)
	return b.load.all[len(b.load.all)-1], err
}

// sent sends a letter that must be answered 250.
func (b *bench) sent(t *testing.T, to ...string) *attempt {
	t.Helper()
	x, err := b.letter(to, nil, 400)
	if err != nil {
		t.Fatalf("send: %v\n%s", err, b.a.LogText())
	}
	return x
}

// down stops the transport of a provider, when it has passed on what it has: one
// that is stopped between a delivery and its note of it delivers again, and the
// second copy is the provider's own.
func (b *bench) down(t *testing.T, provider string) {
	t.Helper()
	arrived(t, b.load, []string{stack.Erin, stack.Frank})
	lab.Fault(t, "down", provider, "smtp")
}

// refused sends a letter that must be refused for now, with a text that names
// what is wrong and that nothing was sent.
func (b *bench) refused(t *testing.T, size int, code int, words ...string) {
	t.Helper()
	x, err := b.letter([]string{stack.Erin}, nil, size)
	wantReply(t, err, code, words...)
	// The provider has nothing of it, not even in clear.
	d := lab.Direct(t, stack.Erin)
	d.OK("SELECT INBOX")
	if uids := d.Search(`HEADER Message-ID "` + x.id + `"`); len(uids) > 0 {
		t.Errorf("a refused message arrived all the same")
	}
}

func wantReply(t *testing.T, err error, code int, words ...string) {
	t.Helper()
	var said *textproto.Error
	if !errors.As(err, &said) {
		t.Errorf("got %v, want a reply %d", err, code)
		return
	}
	if said.Code != code {
		t.Errorf("got %v, want %d", said, code)
	}
	for _, w := range words {
		if !strings.Contains(said.Msg, w) {
			t.Errorf("the reply does not say %q: %v", w, said)
		}
	}
}

// whole checks at the end that everything promised is there, once and opens.
func (b *bench) whole(t *testing.T) {
	t.Helper()
	boxes := arrived(t, b.load, []string{stack.Erin, stack.Frank})
	checkCopies(t, b.load, boxes)
	checkContents(t, b.load, b.b, stack.Erin)
	checkNothingReadable(t, b.Stack, b.load)
}

// logs waits for a line in a gateway's log.
func logs(t *testing.T, g *stack.Gateway, words string) {
	t.Helper()
	for deadline := time.Now().Add(stack.Deadline); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if strings.Contains(g.LogText(), words) {
			return
		}
	}
	t.Errorf("the log does not say %q", words)
}

// imapLogin logs in through a gateway.
func imapLogin(g *stack.Gateway, user string) error {
	conn, err := dial(g, g.IMAP)
	if err != nil {
		return err
	}
	c := imapclient.New(conn, nil)
	defer func() { _ = c.Close() }() // the answer to LOGIN is what counts
	return c.Login(user, g.Password).Wait()
}

// TestProviderFaults: each fault of the lab leaves a clear answer, loses
// nothing, sends nothing in clear, and is over when it is over.
func TestProviderFaults(t *testing.T) {
	lab.Need(t)
	b := newBench(t)
	b.sent(t, stack.Erin) // the conversation exists from now on

	t.Run("own SMTP down", func(t *testing.T) {
		b.down(t, "a")
		b.refused(t, 400, 451, "4.4.1", "cannot be reached", "nothing was sent", "Try again")
		lab.Fault(t, "up", "a", "smtp")
		b.sent(t, stack.Erin)
	})
	t.Run("own SMTP pauses", func(t *testing.T) {
		lab.Fault(t, "pause", "a", "smtp")
		done := make(chan error, 1)
		go func() {
			_, err := b.letter([]string{stack.Erin}, nil, 400)
			done <- err
		}()
		time.Sleep(time.Second) // the fault lasts a while
		lab.Fault(t, "resume", "a", "smtp")
		if err := <-done; err != nil {
			t.Errorf("a submission that had to wait: %v", err)
		}
	})
	t.Run("own SMTP drops connections", func(t *testing.T) {
		c := b.a.Submission(stack.Alice)
		for n := range 3 {
			id := fmt.Sprintf("<dropped%d@crash.test>", n)
			canary, msg := letter(id, stack.Alice, []string{stack.Erin}, "", 400)
			x := b.load.begin(&attempt{id: id, from: stack.Alice, to: []string{stack.Erin}, canary: canary, msg: msg})
			// The mail client's connection lives on; the gateway makes a new
			// one to the provider.
			if err := b.load.end(x, c.Send(x.to, msg)); err != nil {
				t.Errorf("message %d: %v", n, err)
			}
			lab.Fault(t, "kill-connections", "a", "smtp")
		}
	})
	t.Run("own password changed", func(t *testing.T) {
		lab.Fault(t, "password", "a", "alice", "another")
		b.refused(t, 400, 451, "4.7.0", "refused the gateway's login", "Nothing was sent", "password")
		if err := imapLogin(b.a, stack.Alice); err == nil || !strings.Contains(err.Error(), "provider") {
			t.Errorf("IMAP LOGIN: %v; want the reason", err)
		}
		lab.Fault(t, "password", "a", "alice", "{PLAIN}"+stack.Password(stack.Alice))
		b.sent(t, stack.Erin)
		if err := imapLogin(b.a, stack.Alice); err != nil {
			t.Errorf("IMAP LOGIN afterwards: %v", err)
		}
	})
	t.Run("own IMAP down", func(t *testing.T) {
		lab.Fault(t, "down", "a", "imap")
		if err := imapLogin(b.a, stack.Alice); err == nil || !strings.Contains(err.Error(), "provider") {
			t.Errorf("IMAP LOGIN: %v; want the reason", err)
		}
		lab.Fault(t, "up", "a", "imap")
		if err := imapLogin(b.a, stack.Alice); err != nil {
			t.Errorf("IMAP LOGIN afterwards: %v", err)
		}
		b.sent(t, stack.Erin)
	})
	t.Run("own IMAP pauses", func(t *testing.T) {
		lab.Fault(t, "pause", "a", "imap")
		done := make(chan error, 1)
		go func() { done <- imapLogin(b.a, stack.Alice) }()
		time.Sleep(time.Second) // the fault lasts a while
		lab.Fault(t, "resume", "a", "imap")
		if err := <-done; err != nil {
			t.Errorf("a login that had to wait: %v", err)
		}
	})
	t.Run("own IMAP drops connections", func(t *testing.T) {
		c := b.a.Mail(stack.Alice)
		c.OK("SELECT INBOX")
		lab.Fault(t, "kill-connections", "a", "imap")
		if err := imapLogin(b.a, stack.Alice); err != nil {
			t.Errorf("a new connection: %v", err)
		}
	})
	t.Run("own mailbox full", func(t *testing.T) {
		lab.Fault(t, "full", "a", "alice")
		if err := b.load.draft(b.a, "<full@crash.test>", stack.Alice); err == nil || !strings.Contains(strings.ToUpper(err.Error()), "QUOTA") {
			t.Errorf("APPEND: %v; want the provider's word on the quota", err)
		}
		b.sent(t, stack.Erin) // sending needs no room there
		lab.Fault(t, "roomy", "a", "alice")
		if err := b.load.draft(b.a, "<roomy@crash.test>", stack.Alice); err != nil {
			t.Errorf("APPEND afterwards: %v", err)
		}
	})
	t.Run("recipient's SMTP down", func(t *testing.T) {
		b.down(t, "b")
		b.sent(t, stack.Erin) // it waits at the own provider
		x, err := b.letter([]string{stack.Erin}, []string{stack.Frank}, 400)
		if err != nil {
			t.Errorf("with a blind copy: %v", err)
		}
		lab.Fault(t, "up", "b", "smtp")
		arrived(t, &load{all: []*attempt{x}}, []string{stack.Erin, stack.Frank})
	})
	t.Run("recipient's mailbox full", func(t *testing.T) {
		lab.Fault(t, "full", "b", "erin")
		x := b.sent(t, stack.Erin)
		x.answered = false // the recipient's provider refuses it, and the sender is told:
		c := b.a.Mail(stack.Alice)
		var uids []int
		for deadline := time.Now().Add(stack.Deadline); len(uids) == 0 && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
			c.OK("SELECT INBOX")
			uids = c.Search("FROM MAILER-DAEMON")
		}
		if len(uids) == 0 {
			t.Error("no bounce came")
		}
		lab.Fault(t, "roomy", "b", "erin")
		b.sent(t, stack.Erin)
	})
	t.Run("recipient's IMAP fails", func(t *testing.T) {
		lab.Fault(t, "down", "b", "imap")
		x := b.sent(t, stack.Erin)
		if err := imapLogin(b.b, stack.Erin); err == nil || !strings.Contains(err.Error(), "provider") {
			t.Errorf("IMAP LOGIN: %v; want the reason", err)
		}
		lab.Fault(t, "up", "b", "imap")
		b.b.Mail(stack.Erin).Arrives("INBOX", x.id)
	})
	t.Run("new UIDVALIDITY", func(t *testing.T) {
		x := b.sent(t, stack.Erin)
		c := b.b.Mail(stack.Erin)
		before := c.Fetch(c.Arrives("INBOX", x.id), "BODY.PEEK[]").Str
		lab.Fault(t, "uidvalidity", "b", "erin", "INBOX")
		c = b.b.Mail(stack.Erin)
		if after := c.Fetch(c.Arrives("INBOX", x.id), "BODY.PEEK[]").Str; string(after) != string(before) {
			t.Errorf("under the new UIDVALIDITY the message shows %q, before %q", after, before)
		}
	})
	b.whole(t)
}
