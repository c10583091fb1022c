package smtpd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudmls/gateway/internal/mailtest"
	"github.com/cloudmls/gateway/smtpd/outbox"
)

// hold puts one sealed transaction of a user name into the outbox.
func hold(t *testing.T, box *Outbox, username, id string, rcpt string) {
	t.Helper()
	tx := transaction(id, Envelope{From: alice}, []string{rcpt}, []byte("From: "+alice+"\r\n\r\nsealed\r\n"), true)
	held, err := box.hold(username, []Transaction{tx})
	if err != nil {
		t.Fatal(err)
	}
	if err := held.release(); err != nil {
		t.Fatal(err)
	}
}

// TestStuckProviderDelaysNobodyElse: one account's provider accepts connections
// and never says a word; the mail of another account goes out meanwhile.
func TestStuckProviderDelaysNobodyElse(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	w := newWorld(t, worldOptions{})
	sent := w.account.waiter()
	stuck := &testAccount{upstream: Upstream{Addr: silent.Addr().String(), Mode: TLSNone}}
	box, err := OpenOutbox(OutboxOptions{
		Dir:    t.TempDir(),
		Bounce: func(context.Context, string, Transaction, error) error { return errors.New("not expected") },
		Account: func(_ context.Context, name string) (Account, error) {
			if name == "stuck" {
				return stuck, nil
			}
			return w.account, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	hold(t, box, "stuck", "s1", bob)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- box.Run(ctx) }()
	conn, err := silent.Accept() // the worker of the stuck account waits for a greeting from now on
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	hold(t, box, alice, "a1", carol)
	hold(t, box, alice, "a2", dave)
	wantN(t, sent, 2)
	if waiting := box.Waiting(); len(waiting) > 2 || waiting[0].ID != "s1" {
		t.Errorf("waiting: %+v", waiting)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
}

// TestTakenIsNotSentAgain: the provider took the message and the queue cannot
// note it. The message is not sent again; only its record is made up for.
func TestTakenIsNotSentAgain(t *testing.T) {
	dir := t.TempDir()
	w, box, _, _ := outboxWorld(t, dir)
	sent := w.account.waiter()
	hold(t, box, alice, "a1", carol)
	batches, err := filepath.Glob(filepath.Join(dir, "queue-*"))
	if err != nil || len(batches) != 1 {
		t.Fatalf("batches %v, %v", batches, err)
	}
	e, _ := box.q.Next(alice)
	// A folder in the place of the envelope cannot be removed while it holds
	// something: that is the failing disk.
	w.account.mu.Lock()
	told := w.account.onSent
	w.account.onSent = func(tx Transaction) {
		envelope := filepath.Join(batches[0], "000.json")
		if err := errors.Join(os.Remove(envelope), os.Mkdir(envelope, 0o700), os.WriteFile(filepath.Join(envelope, "x"), nil, 0o600)); err != nil {
			t.Error(err)
		}
		told(tx)
	}
	w.account.mu.Unlock()
	if err := box.attempt(t.Context(), e); err == nil {
		t.Fatal("the failing disk was not noticed")
	}
	wantN(t, sent, 1)
	if err := os.RemoveAll(filepath.Join(batches[0], "000.json")); err != nil {
		t.Fatal(err)
	}
	e, ok := box.q.Next(alice)
	if !ok {
		t.Fatal("the entry is gone though its file is not")
	}
	if err := box.attempt(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if box.Len() != 0 {
		t.Error("the entry stays")
	}
	if l := w.inbox(carol); len(l) != 1 {
		t.Errorf("carol has %d copies, want one", len(l))
	}
	select {
	case again := <-sent:
		t.Errorf("sent again: %v", again.ID)
	case <-time.After(0):
	}
}

// TestBouncedIsNotSentAgain: the sender was told that the message did not go out,
// and the queue cannot note it. It does not go out after all, nor is the sender
// told twice.
func TestBouncedIsNotSentAgain(t *testing.T) {
	dir := t.TempDir()
	w, box, b, _ := outboxWorld(t, dir)
	hold(t, box, alice, "a1", carol)
	batches, err := filepath.Glob(filepath.Join(dir, "queue-*"))
	if err != nil || len(batches) != 1 {
		t.Fatalf("batches %v, %v", batches, err)
	}
	envelope := filepath.Join(batches[0], "000.json")
	w.provider.Inject(mailtest.Fault{At: mailtest.SMTPReceived, Code: 550, Enhanced: [3]int{5, 7, 1}, Text: "not wanted"})
	box.o.Bounce = func(ctx context.Context, name string, tx Transaction, err error) error {
		return errors.Join(b.bounce(ctx, name, tx, err),
			os.Remove(envelope), os.Mkdir(envelope, 0o700), os.WriteFile(filepath.Join(envelope, "x"), nil, 0o600))
	}
	e, _ := box.q.Next(alice)
	if err := box.attempt(t.Context(), e); err == nil {
		t.Fatal("the failing disk was not noticed")
	}
	if err := os.RemoveAll(envelope); err != nil {
		t.Fatal(err)
	}
	e, ok := box.q.Next(alice)
	if !ok {
		t.Fatal("the entry is gone though its file is not")
	}
	if err := box.attempt(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if l := w.inbox(carol); len(l) != 0 || box.Len() != 0 || len(b.got) != 1 {
		t.Errorf("carol has %d copies, %d wait, the sender was told %d times", len(l), box.Len(), len(b.got))
	}
}

// TestDSNOfOthersStaysOut: what waits for one recipient says nothing of another
// one.
func TestDSNOfOthersStaysOut(t *testing.T) {
	all := outbox.Notify{Return: "HDRS", EnvelopeID: "e1", Recipients: map[string]outbox.Recipient{
		bob: {When: []string{"SUCCESS"}, Original: "secret@b.test"}, carol: {When: []string{"NEVER"}},
	}}
	for _, c := range []struct{ in, out string }{{bob, carol}, {carol, bob}} {
		n := notifyFor(all, []string{c.in})
		if _, leaks := n.Recipients[c.out]; leaks || len(n.Recipients) != 1 || n.EnvelopeID != "e1" || n.Return != "HDRS" {
			t.Errorf("%s: %+v", c.in, n)
		}
	}
}
