package smtpd

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/cloudmls/gateway/internal/mailtest"
)

// Disconnect says 421 where nothing is under way, lets a message through where
// one is, and leaves other accounts alone.
func TestDisconnect(t *testing.T) {
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
	if n := w.server.Disconnect(func(Account) bool { return false }, "x"); n != 0 {
		t.Errorf("Disconnect of nobody ended %d connections", n)
	}
	idle.say("NOOP\r\n")
	idle.want("250")
	if n := w.server.Sessions(func(a Account) bool { return a == w.account }); n != 2 {
		t.Errorf("Sessions = %d, want 2", n)
	}
	if n := w.server.Disconnect(func(a Account) bool { return a == w.account }, "the account was removed"); n != 2 {
		t.Errorf("Disconnect ended %d connections, want 2", n)
	}
	idle.want("421 4.3.2 the account was removed")
	idle.wantClosed()
	close(hold)
	if err := <-sent; err != nil {
		t.Errorf("the message under way: %v", err)
	}
	if n := len(w.inbox(bob)); n != 1 {
		t.Errorf("bob has %d messages, want 1", n)
	}
}

// An idle connection to the provider does not outlive the settings that it was
// made under, and whoever watches hears of each attempt.
func TestSettingsAreRenewed(t *testing.T) {
	w := newWorld(t, worldOptions{})
	var attempts, failures atomic.Int32
	w.account.upstream.Report = func(err error) {
		attempts.Add(1)
		if errors.Is(err, ErrLogin) {
			failures.Add(1)
		}
	}
	c := w.client()
	message := func(want int32) {
		t.Helper()
		if _, err := send(c, alice, []string{bob}, letter, nil); err != nil {
			t.Fatal(err)
		}
		if n := attempts.Load(); n != want {
			t.Errorf("%d connections to the provider, want %d", n, want)
		}
	}
	message(1)
	message(1)
	w.account.upstream.Generation++
	message(2)
	message(2)
	w.account.upstream.Generation++
	w.provider.Inject(mailtest.Fault{At: mailtest.SMTPAuth, Times: 1, Code: 535, Enhanced: [3]int{5, 7, 8}, Text: "no"})
	if _, err := send(c, alice, []string{bob}, letter, nil); err == nil {
		t.Error("sent although the provider refused the login")
	}
	if n := failures.Load(); n != 1 {
		t.Errorf("%d refused logins were reported, want 1", n)
	}
}
