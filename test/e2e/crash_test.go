package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/stack"
)

// TestKillNine: the sending gateway and the key server are killed again and
// again while mail is submitted. Whatever was answered with 250 arrives, opens
// and is what was submitted; nothing ever lies readable at a provider.
func TestKillNine(t *testing.T) {
	s := stack.New(t, lab)
	a := s.AddUser("alice", stack.Alice)
	b := s.AddUser("erin", stack.Erin)
	const mails = 40
	var mu sync.Mutex
	accepted := map[string][]byte{}
	var secrets []string
	source := rand.New(rand.NewPCG(3, 4))

	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range mails {
			mu.Lock()
			canary := fmt.Sprintf("CANARY-%016x", source.Uint64())
			secrets = append(secrets, canary)
			mu.Unlock()
			id := fmt.Sprintf("<kill%d@a.test>", i)
			msg := letter(id, stack.Alice, []string{stack.Erin}, nil, "", canary, "8bit")
			for range 20 { // a mail client's user presses the button again
				if _, err := a.SMTPLib(stack.Alice, []string{stack.Erin}, msg); err == nil {
					mu.Lock()
					accepted[id] = msg
					mu.Unlock()
					break
				}
				time.Sleep(100 * time.Millisecond) // the other goroutine is restarting what was killed
			}
		}
	}()
	kills := 0
	for alive := true; alive; kills++ {
		select {
		case <-done:
			alive = false
		case <-time.After(time.Duration(200+source.IntN(900)) * time.Millisecond):
			victim, ready := a.Process, stack.GatewayReady
			if kills%3 == 2 {
				victim, ready = s.KeyServer, stack.KeyServerReady
			}
			victim.Kill()
			victim.Start(ready)
		}
	}
	if kills < 5 {
		t.Errorf("only %d kills happened", kills)
	}
	if len(accepted) < mails {
		t.Errorf("%d of %d mails were accepted at last", len(accepted), mails)
	}
	c := b.Mail(stack.Erin)
	for id, msg := range accepted {
		uid := c.Arrives("INBOX", id)
		if got := stack.WithoutPrefix(t, c.Fetch(uid, "BODY.PEEK[]").Str); !bytes.Equal(got, msg) {
			t.Errorf("%s does not open as submitted:\n%s", id, got)
		}
	}
	t.Logf("%d kills, %d mails accepted", kills, len(accepted))
	for c, files := range stack.FindCanaries(t, secrets, append([]string{s.Dir}, lab.Folders()...)...) {
		t.Errorf("%s lies readable in %v", c, files)
	}
}
