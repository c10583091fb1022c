package crash

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/cloudmls/gateway/test/stack"
)

// grace is one more person of the lab.
const grace = "grace@b.test"

// attempt is one submission, or one upload where to is empty. A mail client
// that got no answer sends again; here that is a new attempt, so that two
// copies of one attempt are the gateway's doing.
type attempt struct {
	id       string // Message-ID
	from     string
	to       []string // all recipients
	msg      []byte
	canary   string
	answered bool // 250 or OK
}

// load is everything that mail clients did.
type load struct {
	mu  sync.Mutex
	all []*attempt
	why map[string]int // errors that clients saw
}

// run does step over and over until ctx ends. After an attempt without an
// answer it waits a moment, as people do.
func (l *load) run(ctx context.Context, name string, pace time.Duration, step func(n int) error) {
	for n := 0; ctx.Err() == nil; n++ {
		pause := pace
		if err := step(n); err != nil {
			l.mu.Lock()
			l.why[name+": "+err.Error()]++
			l.mu.Unlock()
			pause = max(pace, 150*time.Millisecond)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (l *load) begin(a *attempt) *attempt {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, a)
	return a
}

func (l *load) end(a *attempt, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.answered = err == nil
	return err
}

// send submits a letter and notes what came of it. Whoever is in blind is in no
// header field.
func (l *load) send(g *stack.Gateway, id, from string, to, blind []string, answers string, size int) error {
	a := &attempt{id: id, from: from, to: append(append([]string(nil), to...), blind...)}
	a.canary, a.msg = letter(id, from, to, answers, size)
	l.begin(a)
	return l.end(a, submit(g, from, a.to, a.msg))
}

// draft uploads a letter to Drafts.
func (l *load) draft(g *stack.Gateway, id, user string) error {
	a := &attempt{id: id, from: user}
	a.canary, a.msg = letter(id, user, []string{"somebody@c.test"}, "", 500)
	l.begin(a)
	return l.end(a, upload(g, user, "Drafts", a.msg))
}

// letter has a canary in subject and text. The canary follows from the id.
func letter(id, from string, to []string, answers string, size int) (canary string, msg []byte) {
	sum := sha256.Sum256([]byte(id))
	canary = fmt.Sprintf("CANARY-%x", sum[:8])
	var b strings.Builder
	fmt.Fprintf(&b, "Date: Mon, 23 Nov 2026 10:00:00 +0100\r\nFrom: <%s>\r\nTo: %s\r\nMessage-ID: %s\r\n", from, strings.Join(to, ", "), id)
	if answers != "" {
		fmt.Fprintf(&b, "In-Reply-To: %s\r\nReferences: %s\r\n", answers, answers)
	}
	fmt.Fprintf(&b, "Subject: About %s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGrüße, %s\r\n.\r\n", canary, canary)
	line := base64.StdEncoding.EncodeToString(sum[:]) + " " + canary + "\r\n"
	for b.Len() < size {
		b.WriteString(line)
	}
	return canary, []byte(b.String())
}

// size is usually small; now and then the message has a bulk part, and seldom
// it is spooled on disk.
func size(n int) int {
	switch {
	case n%40 == 39:
		return 1<<20 + 300<<10
	case n%10 == 9:
		return 80 << 10
	}
	return 400
}

// busy makes two users and a second device do everything at once, until ctx
// ends: dialogs from both sides, blind copies, groups that are made and grow,
// drafts.
func busy(ctx context.Context, l *load, seed uint64, a, a2, b *stack.Gateway) *sync.WaitGroup {
	id := func(who string, n int) string { return fmt.Sprintf("<%s.%d.%d@crash.test>", who, seed, n) }
	var wg sync.WaitGroup
	startAt := func(pace time.Duration, name string, step func(n int) error) {
		wg.Go(func() { l.run(ctx, name, pace, step) })
	}
	start := func(name string, step func(n int) error) { startAt(200*time.Millisecond, name, step) }
	start("dialog", func(n int) error {
		return l.send(a, id("dialog", n), stack.Alice, []string{stack.Erin}, nil, "", size(n))
	})
	start("second device", func(n int) error {
		to := [][]string{{stack.Erin}, {stack.Erin, stack.Frank, grace}}[n%2]
		return l.send(a2, id("second", n), stack.Alice, to, nil, "", size(n))
	})
	start("answers", func(n int) error {
		to := [][]string{{stack.Alice}, {stack.Frank, stack.Alice, grace}}[n%2]
		return l.send(b, id("answers", n), stack.Erin, to, nil, "", size(n))
	})
	start("blind copies", func(n int) error {
		return l.send(a, id("blind", n), stack.Alice, []string{stack.Erin}, []string{stack.Frank, grace}, "", size(n+5))
	})
	// Nobody else writes to these two, so this device makes the groups and their
	// Commits. The key server gives a user 20 KeyPackages of an account at once,
	// and each new group takes one of everybody.
	startAt(500*time.Millisecond, "groups", func(n int) error {
		first := id("groups", n)
		if n%2 == 0 {
			return l.send(a, first, stack.Alice, []string{stack.Erin, stack.Frank}, nil, "", 400)
		}
		// Somebody more is answered to: the thread's group grows by a Commit.
		return l.send(a, first, stack.Alice, []string{stack.Erin, stack.Frank, grace}, nil, id("groups", n-1), 400)
	})
	start("drafts", func(n int) error { return l.draft(a, id("drafts", n), stack.Alice) })
	return &wg
}
