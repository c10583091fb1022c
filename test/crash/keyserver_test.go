package crash

import (
	"syscall"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/stack"
)

// TestKeyServerFaults: without the key server nothing is sent in clear, mail
// that is there stays readable, and everything goes on when it is back.
func TestKeyServerFaults(t *testing.T) {
	lab.Need(t)
	b := newBench(t)
	first := b.sent(t, stack.Erin)
	c := b.b.Mail(stack.Erin)
	uid := c.Arrives("INBOX", first.id)
	c.Fetch(uid, "BODY.PEEK[]")

	t.Run("down", func(t *testing.T) {
		b.KeyServer.Kill()
		// Nobody was written to before: only the key server knows who has an account.
		_, err := b.letter([]string{stack.Frank}, nil, 400)
		wantReply(t, err, 451, "key server", "Nothing was sent in clear", "Try again")
		c := b.b.Mail(stack.Erin)
		c.OK("SELECT INBOX")
		if got := stack.WithoutPrefix(t, c.Fetch(uid, "BODY.PEEK[]").Str); string(got) != string(first.msg) {
			t.Errorf("without the key server the message shows %q", got)
		}
		logs(t, b.a, "sync with the key server failed")
		b.KeyServer.Start(stack.KeyServerReady)
		b.sent(t, stack.Frank)
	})
	t.Run("paused", func(t *testing.T) {
		b.KeyServer.Signal(syscall.SIGSTOP)
		done := make(chan error, 1)
		go func() {
			_, err := b.letter([]string{stack.Erin}, nil, 400)
			done <- err
		}()
		if err := imapLogin(b.b, stack.Erin); err != nil { // mail does not wait for it
			t.Errorf("IMAP LOGIN: %v", err)
		}
		time.Sleep(time.Second) // the fault lasts a while
		b.KeyServer.Signal(syscall.SIGCONT)
		if err := <-done; err != nil {
			t.Errorf("a submission that had to wait: %v", err)
		}
	})
	b.whole(t)
}
