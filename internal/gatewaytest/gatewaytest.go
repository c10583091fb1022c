// Package gatewaytest is package world for tests: everything on loopback, each
// helper fails the test by itself, and all is stopped at its end.
//
//	w := gatewaytest.New(t, gatewaytest.Options{})
//	msg := world.Letter{From: gatewaytest.Alice, To: []string{gatewaytest.Bob}, Subject: "x", MessageID: "<1@example.org>"}
//	w.Send("alice", msg)
//	got := w.Read("bob", "INBOX", msg.MessageID)
package gatewaytest

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/mailtest"
	"github.com/cloudmls/gateway/internal/world"
)

// Addresses of the people that New makes if none are given. Oscar is an
// outsider.
const (
	Alice = "alice@example.org"
	Bob   = "bob@example.net"
	Carol = "carol@example.org"
	Oscar = "oscar@example.com"
)

// Options of New. The zero value is a world of alice, bob and the outsider
// oscar.
type Options struct {
	People   []world.Spec
	Provider func(*mailtest.Options)
	Now      func() time.Time
}

// Two are alice, bob and the outsider oscar; Three has carol as well.
func Two() []world.Spec {
	return []world.Spec{
		{Name: "alice", Address: Alice}, {Name: "bob", Address: Bob},
		{Name: "oscar", Address: Oscar, Outsider: true},
	}
}

// Three are alice, bob, carol and the outsider oscar.
func Three() []world.Spec {
	return append(Two(), world.Spec{Name: "carol", Address: Carol})
}

// World is a world.World whose helpers fail the test.
type World struct {
	*world.World
	TB testing.TB
}

// New starts a world and stops it at the end of the test.
func New(tb testing.TB, o Options) *World {
	tb.Helper()
	if o.People == nil {
		o.People = Two()
	}
	inner, err := world.New(tb.Context(), world.Options{
		Dir: tb.TempDir(), People: o.People, Provider: o.Provider, Now: o.Now,
		Logger: slog.New(slog.NewTextHandler(testLog{tb}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := inner.Close(); err != nil {
			tb.Errorf("stop the world: %v", err)
		}
	})
	return &World{World: inner, TB: tb}
}

type testLog struct{ tb testing.TB }

// Write implements io.Writer.
func (l testLog) Write(p []byte) (int, error) {
	l.tb.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// Program is the mail program of a person's first device, or of the provider
// itself for outsiders.
func (w *World) Program(name string) *world.MailProgram {
	w.TB.Helper()
	p := w.Person(name)
	if p == nil {
		w.TB.Fatalf("nobody is called %s", name)
	}
	if p.Outsider {
		return p.Direct()
	}
	return p.Device().Mail()
}

// Try submits a letter and gives the server's answer.
func (w *World) Try(name string, l world.Letter) error {
	w.TB.Helper()
	return w.Program(name).Send(w.TB.Context(), world.BareAddress(l.From), l.Recipients(), l.Bytes())
}

// Send submits a letter to all whom it names.
func (w *World) Send(name string, l world.Letter) {
	w.TB.Helper()
	if err := w.Try(name, l); err != nil {
		w.TB.Fatalf("%s sends: %v", name, err)
	}
}

// Refused submits a letter that must be refused with the code, and returns the
// reply's text.
func (w *World) Refused(name string, l world.Letter, code int) string {
	w.TB.Helper()
	err := w.Try(name, l)
	var reply *smtp.SMTPError
	if !errors.As(err, &reply) || reply.Code != code {
		w.TB.Fatalf("%s sends: got %v, want %d", name, err, code)
	}
	if reply.EnhancedCode[0] != code/100 {
		w.TB.Errorf("enhanced code %v does not fit %d", reply.EnhancedCode, code)
	}
	return reply.Message
}

// patience is how long Read waits for a message: what needs several
// transactions is accepted once it is in the outbox, and sent behind the answer.
const patience = 20 * time.Second

// Read gives a message as the person's mail program sees it.
func (w *World) Read(name, mailbox, messageID string) *world.Mail {
	w.TB.Helper()
	m, err := w.Program(name).Find(w.TB.Context(), mailbox, messageID)
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
		m, err = w.Program(name).Find(w.TB.Context(), mailbox, messageID)
	}
	if err != nil {
		w.TB.Fatalf("%s reads: %v", name, err)
	}
	return m
}

// All gives a whole mailbox as the person's mail program sees it.
func (w *World) All(name, mailbox string) []world.Mail {
	w.TB.Helper()
	all, err := w.Program(name).List(w.TB.Context(), mailbox)
	if err != nil {
		w.TB.Fatalf("%s reads %s: %v", name, mailbox, err)
	}
	return all
}

// Stored gives a mailbox as the provider stores it.
func (w *World) Stored(name, mailbox string) []mailtest.Stored {
	w.TB.Helper()
	all, err := w.Person(name).Stored(mailbox)
	if err != nil {
		w.TB.Fatal(err)
	}
	return all
}

// Deliver puts octets into a person's INBOX, as a hostile provider could.
func (w *World) Deliver(name string, message []byte, flags ...string) {
	w.TB.Helper()
	p := w.Person(name)
	if err := p.Provider().Deliver(p.Address, "INBOX", message, flags...); err != nil {
		w.TB.Fatal(err)
	}
}

// Last is the last element; the test fails if there is none.
func Last[T any](tb testing.TB, all []T) T {
	tb.Helper()
	if len(all) == 0 {
		tb.Fatal("nothing there")
	}
	return all[len(all)-1]
}

// Leaks reports whether any provider ever held the canary: in clear, whatever
// the case, or within base64 of whatever alignment and line length.
func (w *World) Leaks(canary string) bool {
	for _, content := range w.Everything() {
		if Holds(content, canary) {
			return true
		}
	}
	return false
}

// Holds reports whether the octets hold the canary; see Leaks.
func Holds(content []byte, canary string) bool {
	if bytes.Contains(bytes.ToLower(content), bytes.ToLower([]byte(canary))) {
		return true
	}
	joined := bytes.ReplaceAll(bytes.ReplaceAll(content, []byte("\r"), nil), []byte("\n"), nil)
	for pad := range 3 {
		enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", pad) + canary))
		// What depends on neighbours is cut: the first and the last quantum.
		if len(enc) > 12 && bytes.Contains(joined, []byte(enc[4:len(enc)-4])) {
			return true
		}
	}
	return false
}

// Compare makes a person compare the identity keys of others with them, who are
// verified from then on.
func (w *World) Compare(name string, others ...string) {
	w.TB.Helper()
	p := w.Person(name)
	self := cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: p.Address}
	for _, o := range others {
		other := cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: o}
		c := p.Device().Client()
		code, err := c.ComparisonCode(w.TB.Context(), self, other)
		if err == nil {
			err = c.VerifyKey(w.TB.Context(), self, other, code.Key())
		}
		if err != nil {
			w.TB.Fatalf("%s compares with %s: %v", name, o, err)
		}
	}
}

// Compared reports whether a person has compared an address's key; everybody
// has their own.
func (w *World) Compared(name, address string) bool {
	w.TB.Helper()
	p := w.Person(name)
	if p.Address == address {
		return true
	}
	all, err := p.Device().Client().Contacts(w.TB.Context(), cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: p.Address})
	if err != nil {
		w.TB.Fatal(err)
	}
	for _, c := range all {
		if c.Account.ID == address {
			return c.State == cloudmls.ContactVerified
		}
	}
	return false
}

// Inner gives what the sender submitted of a sealed message that was opened;
// the test fails if the status field is missing.
func (w *World) Inner(m *world.Mail) []byte {
	w.TB.Helper()
	inner, ok := world.Inner(m.Content)
	if !ok {
		w.TB.Fatalf("no status field in\n%s", m.Content)
	}
	return inner
}

// Context is the test's.
func (w *World) Context() context.Context { return w.TB.Context() }
