package smtpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/internal/mailtest"
)

func TestEHLO(t *testing.T) {
	w := newWorld(t, worldOptions{server: Options{MaxMessageBytes: 1234567, Hostname: "gateway.local"}})
	r := w.raw()
	if got := r.want("220"); !strings.HasPrefix(got, "220 gateway.local ") {
		t.Errorf("greeting = %q", got)
	}
	r.say("EHLO x\r\n")
	got := r.want("250")
	for _, want := range []string{"AUTH PLAIN LOGIN", "SIZE 1234567", "8BITMIME", "SMTPUTF8", "CHUNKING", "DSN", "LIMITS RCPTMAX=100"} {
		if !strings.Contains(got, want+"\r\n") {
			t.Errorf("EHLO lacks %s:\n%s", want, got)
		}
	}
	for _, not := range []string{"STARTTLS", "BINARYMIME", "DELIVERBY", "MT-PRIORITY"} {
		if strings.Contains(got, not) {
			t.Errorf("EHLO offers %s:\n%s", not, got)
		}
	}
}

func TestTooManyRecipients(t *testing.T) {
	w := newWorld(t, worldOptions{})
	r := w.rawLogin()
	r.say("MAIL FROM:<" + alice + ">\r\n")
	r.want("250")
	for range MaxRecipients {
		r.say("RCPT TO:<" + bob + ">\r\n")
		r.want("250")
	}
	r.say("RCPT TO:<" + bob + ">\r\n")
	r.want("452")
}

// A client that stops in the middle of a message is disconnected, and what it
// sends later is not taken for commands.
func TestStalledMessage(t *testing.T) {
	w := newWorld(t, worldOptions{server: Options{Timeouts: Timeouts{Idle: 150 * time.Millisecond}}})
	r := w.rawLogin()
	r.say("MAIL FROM:<" + alice + ">\r\n")
	r.want("250")
	r.say("RCPT TO:<" + bob + ">\r\n")
	r.want("250")
	r.say("DATA\r\n")
	r.want("354")
	r.say("Subject: half\r\n")
	r.want("451")
	r.want("421")
	r.wantClosed()
	if n := len(w.account.received()); n != 0 {
		t.Error("half a message was sealed")
	}
}

// A slow message that makes progress is not cut off.
func TestSlowMessage(t *testing.T) {
	w := newWorld(t, worldOptions{server: Options{Timeouts: Timeouts{Idle: time.Second}}})
	r := w.rawLogin()
	r.say("MAIL FROM:<" + alice + ">\r\n")
	r.want("250")
	r.say("RCPT TO:<" + bob + ">\r\n")
	r.want("250")
	r.say("DATA\r\n")
	r.want("354")
	tick := time.NewTicker(120 * time.Millisecond)
	defer tick.Stop()
	for i := range 12 { // longer than Idle in all
		<-tick.C
		r.say(fmt.Sprintf("X-%d: y\r\n", i))
	}
	r.say("\r\n.\r\n")
	r.want("250")
}

func TestShutdownWaitsForMessages(t *testing.T) {
	w := newWorld(t, worldOptions{})
	reached, hold := make(chan struct{}), make(chan struct{})
	w.provider.Inject(mailtest.Fault{At: mailtest.SMTPReceived, Times: 1, Reached: func() { close(reached) }, Wait: hold})
	idle := w.rawLogin()
	busy := w.client()
	sent := make(chan error, 1)
	go func() {
		_, err := send(busy, alice, []string{bob}, letter, nil)
		sent <- err
	}()
	<-reached
	done := make(chan error, 1)
	go func() { done <- w.server.Shutdown(t.Context()) }()
	idle.wantClosed()
	select {
	case err := <-done:
		t.Fatalf("Shutdown = %v before the message was through", err)
	default:
	}
	close(hold)
	if err := <-sent; err != nil {
		t.Errorf("the message under way: %v", err)
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	if n := len(w.inbox(bob)); n != 1 {
		t.Errorf("bob has %d messages, want 1", n)
	}
}

func TestShutdownEnds(t *testing.T) {
	w := newWorld(t, worldOptions{})
	reached, hold := make(chan struct{}), make(chan struct{})
	defer close(hold)
	w.provider.Inject(mailtest.Fault{At: mailtest.SMTPReceived, Times: 1, Reached: func() { close(reached) }, Wait: hold})
	c := w.client()
	sent := make(chan error, 1)
	go func() {
		_, err := send(c, alice, []string{bob}, letter, nil)
		sent <- err
	}()
	<-reached
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.server.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown = %v, want the context's error", err)
	}
	if err := <-sent; err == nil {
		t.Error("a message that was cut off was reported as sent")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]Options{
		"no backend":   {},
		"size":         {Backend: testBackend{}, MaxMessageBytes: -1},
		"bad hostname": {Backend: testBackend{}, Hostname: "a b"},
	} {
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), "Options.") {
			t.Errorf("%s: New = %v, want the bad field named", name, err)
		}
	}
	if _, err := OpenOutbox(OutboxOptions{Dir: t.TempDir()}); err == nil {
		t.Error("an outbox without Account was opened")
	}
}

// A server that is shut down the moment it starts to serve still ends.
func TestShutdownAtOnce(t *testing.T) {
	for range 50 {
		server, err := New(Options{Backend: testBackend{}})
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- server.Serve(ln) }()
		if err := server.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		if err := <-served; err != nil && !errors.Is(err, smtp.ErrServerClosed) {
			t.Errorf("Serve = %v", err)
		}
	}
}
