package smtpd

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/internal/mailtest"
)

// bounces records what an outbox reports.
type bounces struct {
	mu  sync.Mutex
	ch  chan error
	got []Transaction
	err error // what Bounce returns
}

func (b *bounces) bounce(_ context.Context, username string, t Transaction, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if username != alice {
		return errors.New("wrong user name")
	}
	b.got = append(b.got, t)
	b.ch <- err
	return b.err
}

// outboxWorld is a world whose server has an outbox; run starts it.
func outboxWorld(t *testing.T, dir string) (w *world, box *Outbox, b *bounces, run func() (stop func())) {
	t.Helper()
	b = &bounces{ch: make(chan error, 10)}
	var account Account
	box, err := OpenOutbox(OutboxOptions{
		Dir: dir, Bounce: b.bounce,
		Account: func(context.Context, string) (Account, error) { return account, nil },
		Backoff: func(int) time.Duration { return time.Millisecond },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := box.Close(); err != nil {
			t.Errorf("close outbox: %v", err)
		}
	})
	w = newWorld(t, worldOptions{server: Options{Outbox: box}})
	w.account.seal = splitSeal
	account = w.account
	return w, box, b, func() func() {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- box.Run(ctx) }()
		return sync.OnceFunc(func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("Run = %v", err)
			}
		})
	}
}

// wait returns once n transactions were sent.
func (a *testAccount) waiter() chan Transaction {
	ch := make(chan Transaction, 100)
	a.onSent = func(t Transaction) { ch <- t }
	return ch
}

func wantN[T any](t *testing.T, ch chan T, n int) []T {
	t.Helper()
	var out []T
	for len(out) < n {
		select {
		case x := <-ch:
			out = append(out, x)
		case <-time.After(15 * time.Second):
			t.Fatalf("got %d of %d", len(out), n)
		}
	}
	return out
}

func TestSeveralTransactions(t *testing.T) {
	w, box, _, run := outboxWorld(t, t.TempDir())
	sent := w.account.waiter()
	stop := run()
	defer stop()
	said, err := send(w.client(), alice, []string{bob, carol, dave}, letter, nil)
	if err != nil || !strings.Contains(said, "queued as") {
		t.Fatalf("reply = %q, %v", said, err)
	}
	wantN(t, sent, 3)
	for _, rcpt := range []string{bob, carol, dave} {
		l := w.inbox(rcpt)
		if len(l) != 1 || !strings.Contains(string(l[0].Content), "sealed for "+rcpt) {
			t.Errorf("%s has %d messages", rcpt, len(l))
		}
	}
	for _, s := range w.provider.Submissions() {
		if len(s.Recipients) != 1 {
			t.Errorf("a copy went to %v", s.Recipients)
		}
	}
	stop()
	if n := box.Len(); n != 0 {
		t.Errorf("%d entries stay in the outbox", n)
	}
}

func TestFirstTransactionDecides(t *testing.T) {
	dir := t.TempDir()
	w, box, _, run := outboxWorld(t, dir)
	defer run()()
	// RCPT is fine; the message itself is refused.
	w.provider.Inject(mailtest.Fault{At: mailtest.SMTPReceived, Times: 1, Code: 552, Enhanced: [3]int{5, 2, 2}, Text: "full"})
	_, err := send(w.client(), alice, []string{bob, carol}, letter, nil)
	wantSMTP(t, err, 552, smtp.EnhancedCode{5, 2, 2}, "full")
	if n := len(w.provider.Submissions()); n != 0 || box.Len() != 0 {
		t.Errorf("%d submissions and %d in the outbox, want nothing", n, box.Len())
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*-*")); err != nil || len(left) != 0 {
		t.Errorf("the outbox keeps %v, %v", left, err)
	}
}

func TestLaterTransactionIsRetried(t *testing.T) {
	w, _, _, run := outboxWorld(t, t.TempDir())
	sent := w.account.waiter()
	stop := run()
	defer stop()
	w.provider.Inject(mailtest.Fault{At: mailtest.SMTPReceived, Skip: 1, Times: 3, Code: 451, Text: "later"})
	if _, err := send(w.client(), alice, []string{bob, carol}, letter, nil); err != nil {
		t.Fatal(err)
	}
	wantN(t, sent, 2)
	if n := len(w.inbox(carol)); n != 1 {
		t.Errorf("carol has %d messages, want 1", n)
	}
}

func TestLaterTransactionBounces(t *testing.T) {
	w, box, b, run := outboxWorld(t, t.TempDir())
	stop := run()
	defer stop()
	b.err = errors.New("mailbox not ready") // the first report fails
	w.provider.Inject(mailtest.Fault{At: mailtest.SMTPReceived, Skip: 1, Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "not wanted"})
	if _, err := send(w.client(), alice, []string{bob, carol}, letter, nil); err != nil {
		t.Fatal(err)
	}
	var refusal *Refusal
	if err := wantN(t, b.ch, 1)[0]; !errors.As(err, &refusal) || refusal.Code != 550 || refusal.Text != "not wanted" {
		t.Errorf("bounce = %v, want the provider's words", err)
	}
	b.mu.Lock()
	b.err = nil
	b.mu.Unlock()
	wantN(t, b.ch, 1)
	stop()
	if box.Len() != 0 {
		t.Error("a bounced transaction stays in the outbox")
	}
}

// The provider took the message but its answer got lost: the same octets go
// out again and say so.
func TestUnconfirmedTransactionIsMarked(t *testing.T) {
	w, _, _, run := outboxWorld(t, t.TempDir())
	sent := w.account.waiter()
	w.provider.Inject(mailtest.Fault{At: mailtest.SMTPStored, Skip: 1, Times: 1, Close: true})
	if _, err := send(w.client(), alice, []string{bob, carol}, letter, nil); err != nil {
		t.Fatal(err)
	}
	stop := run()
	defer stop()
	got := wantN(t, sent, 2)
	if got[0].Resent || !got[1].Resent {
		t.Errorf("Resent = %v, %v; want only the second", got[0].Resent, got[1].Resent)
	}
	l := w.inbox(carol)
	if len(l) != 2 {
		t.Fatalf("carol has %d messages, want the two copies", len(l))
	}
	// The provider puts its own fields before what it gets.
	sent1, sent2 := string(l[0].Content), string(l[1].Content)
	begin := strings.Index(sent1, "From: ")
	if strings.Contains(sent1, ResentField) || !strings.HasSuffix(sent2, ResentField+sent1[begin:]) {
		t.Errorf("the second attempt sent %q, the first %q; want the same octets behind the mark", sent2, sent1)
	}
}

func TestOutboxOutlivesProvider(t *testing.T) {
	dir := t.TempDir()
	w, box, _, run := outboxWorld(t, dir)
	sent := w.account.waiter()
	if _, err := send(w.client(), alice, []string{bob, carol, dave}, letter, nil); err != nil {
		t.Fatal(err)
	}
	wantN(t, sent, 1)
	if box.Len() != 2 {
		t.Fatalf("%d in the outbox, want 2", box.Len())
	}
	if err := w.provider.Down(); err != nil {
		t.Fatal(err)
	}
	run()() // an attempt, or none: both are fine
	if err := w.provider.Up(); err != nil {
		t.Fatal(err)
	}
	defer run()()
	wantN(t, sent, 2)
}

func TestOnlySealedContentIsStored(t *testing.T) {
	dir := t.TempDir()
	w, box, _, _ := outboxWorld(t, dir)
	w.account.seal = func(e Envelope, content []byte) ([]Transaction, error) {
		l, err := splitSeal(e, content)
		l[1] = transaction("plain", e, l[1].Recipients, content, false)
		return l, err
	}
	if _, err := send(w.client(), alice, []string{bob, carol}, letter, nil); err != nil {
		t.Fatal(err)
	}
	if s := w.provider.Submissions(); len(s) != 1 || s[0].Recipients[0] != carol {
		t.Errorf("first went %+v, want the one in clear", s)
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if strings.Contains(string(b), ".dot") || strings.Contains(string(b), "Subject: x") {
			t.Errorf("%s holds plaintext", path)
		}
		return err
	})
	if err != nil || box.Len() != 1 {
		t.Errorf("err %v, %d entries", err, box.Len())
	}
	if _, err := box.hold(alice, []Transaction{{ID: "x", Open: func() (io.ReadCloser, error) { return nil, nil }}}); err == nil {
		t.Error("a transaction in clear was stored")
	}
}

func TestBackoff(t *testing.T) {
	last := time.Duration(0)
	for attempt := 1; attempt < 100; attempt++ {
		d := backoff(attempt)
		if d < last || d > time.Hour || d < 5*time.Second {
			t.Fatalf("attempt %d: %v after %v", attempt, d, last)
		}
		last = d
	}
	if last != time.Hour {
		t.Errorf("longest pause is %v", last)
	}
}
