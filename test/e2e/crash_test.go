package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

// TestKillNine: the sending gateway and the key server are killed again and
// again while mail is submitted. Whatever was answered with 250 arrives, opens
// and is what was submitted; nothing ever lies readable at a provider.
func TestKillNine(t *testing.T) {
	s := newStack(t)
	a := s.addUser("alice", alice)
	b := s.addUser("erin", erin)
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
			msg := letter(id, alice, []string{erin}, nil, "", canary, "8bit")
			for range 20 { // a mail client's user presses the button again
				if _, err := a.smtplib(alice, []string{erin}, msg); err == nil {
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
			victim, ready := a.process, "ready:"
			if kills%3 == 2 {
				victim, ready = s.keyServer, "listens on"
			}
			victim.kill()
			victim.start(ready)
		}
	}
	if kills < 5 {
		t.Errorf("only %d kills happened", kills)
	}
	if len(accepted) < mails {
		t.Errorf("%d of %d mails were accepted at last", len(accepted), mails)
	}
	c := b.mail(erin)
	for id, msg := range accepted {
		uid := arrives(t, c, "INBOX", id)
		if got := withoutPrefix(t, c.fetch(uid, "BODY.PEEK[]").str); !bytes.Equal(got, msg) {
			t.Errorf("%s does not open as submitted:\n%s", id, got)
		}
	}
	t.Logf("%d kills, %d mails accepted", kills, len(accepted))
	for c, files := range findCanaries(t, secrets, append([]string{s.dir}, mailLab.folders()...)...) {
		t.Errorf("%s lies readable in %v", c, files)
	}
}
