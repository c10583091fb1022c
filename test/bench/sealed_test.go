package bench

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/cloudmls/gateway/test/stack"
)

// submitter is a submission session that stays open.
type submitter struct {
	b *testing.B
	c *smtp.Client
}

func submitThrough(b *testing.B, g *stack.Gateway, from string) *submitter {
	return submission(b, g.SMTP, g.CA, from, g.Password)
}

func submitPast(b *testing.B, from string) *submitter {
	p := lab.Of(b, from)
	return submission(b, fmt.Sprintf("%s:%d", p.Host, p.SMTP.TLSPort), lab.CA, from, stack.Password(from))
}

func submission(b *testing.B, addr, ca, from, password string) *submitter {
	b.Helper()
	pool, err := roots(ca)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		b.Fatal(err)
	}
	c := smtp.NewClient(conn)
	b.Cleanup(func() { _ = c.Close() })
	if err := c.Auth(sasl.NewPlainClient("", from, password)); err != nil {
		b.Fatal(err)
	}
	return &submitter{b, c}
}

func (s *submitter) send(from, to string, message []byte) {
	if err := s.c.SendMail(from, []string{to}, bytes.NewReader(message)); err != nil {
		s.b.Error(err) // not Fatal: several submitters run at once
	}
}

// note is a message of some 2 KiB with an id of its own.
func note(id, from, to string) []byte {
	return fmt.Appendf(nil, "From: %s\r\nTo: %s\r\nSubject: note %s\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s@bench.test>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n%s",
		from, to, id, id, strings.Repeat("What one writes to another, in some lines of text.\r\n", 40))
}

// BenchmarkSubmission sends in a conversation that exists already.
func BenchmarkSubmission(b *testing.B) {
	s := stack.New(b, lab)
	g := s.AddUser("alice", stack.Alice)
	s.AddUser("erin", stack.Erin)
	ours, ref := submitThrough(b, g, stack.Alice), submitPast(b, stack.Alice)
	n := 0
	batch := func(s *submitter) func() {
		return func() {
			for range 10 {
				n++
				s.send(stack.Alice, stack.Erin, note(fmt.Sprintf("submission-%d", n), stack.Alice, stack.Erin))
			}
		}
	}
	compare("submit", "sealed size=2KB n=10 state=warm", 1.50, batch(ours), batch(ref))
}

// BenchmarkSealed lists and reads encrypted mail. BENCH_SEALED says of how many
// messages the list is; 5000 if it is not set.
func BenchmarkSealed(b *testing.B) {
	many := 5000
	if text := os.Getenv("BENCH_SEALED"); text != "" {
		var err error
		if many, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	s := stack.New(b, lab)
	sender := s.AddUser("alice", stack.Alice)
	reader := s.AddUser("erin", stack.Erin)
	idle := memory(b, reader, "VmRSS")
	submitThrough(b, sender, stack.Alice).send(stack.Alice, stack.Erin, attachment("<large@bench.test>", stack.Alice, stack.Erin, 15<<20))
	large := reader.Mail(stack.Erin).Arrives("INBOX", "<large@bench.test>")
	sendMany(b, sender, many)

	ours, ref := through(b, reader, stack.Erin), past(b, stack.Erin)
	waitFor(b, ref, many+1)
	ours.do("SELECT INBOX")
	list := "UID FETCH 1:* " + thunderbirdFields
	// What no reader can go without: one control part of each message.
	parts := "UID FETCH 1:* (UID RFC822.SIZE FLAGS BODY.PEEK[1])"
	reference := timed(func() { ref.do(parts) })
	cold := timed(func() { ours.do(list) })
	line("list-cold", fmt.Sprintf("sealed n=%d ref=fetch-control-parts", many), ms(cold), ms(reference), cold.Seconds()/reference.Seconds(), 3)
	compare("list-warm", fmt.Sprintf("sealed n=%d ref=list-outer-headers", many), 1.10, func() { ours.do(list) }, func() { ref.do(list) })

	sealed := octetsOf(b, ref, large, "2")
	whole := fmt.Sprintf("UID FETCH %d BODY.PEEK[]", large)
	size := ours.do(whole)
	bare := func() time.Duration {
		return timed(func() { ref.do(fmt.Sprintf("UID FETCH %d BODY.PEEK[2]", large)) }) + timed(func() { bareOpen(b, sealed) })
	}
	rate := func(d time.Duration) string { return fmt.Sprintf("%.0fMB/s", float64(size)/1e6/d.Seconds()) }
	body := func(state string, read func() time.Duration) {
		a, r, ratio := pairs(rounds, read, bare)
		line("read-body", fmt.Sprintf("sealed size=%dMB state=%s ref=fetch+base64+chacha20poly1305+sha256", size/1e6, state), rate(a), rate(r), ratio, 1.50)
	}
	// A connection keeps the content that it served last, so that what is read in
	// pieces is decrypted once: a new one has to do all of it.
	body("first", func() time.Duration {
		fresh := through(b, reader, stack.Erin)
		fresh.do("SELECT INBOX")
		defer fresh.do("LOGOUT")
		return timed(func() { fresh.do(whole) })
	})
	body("again", func() time.Duration { return timed(func() { ours.do(whole) }) })

	peak := memory(b, reader, "VmHWM")
	const idleLimit, peakLimit = 64.0, 256.0
	line("memory-idle", "accounts=1 ref=limit", mb(idle), mb(idleLimit), idle/idleLimit, 1)
	line("memory-peak", fmt.Sprintf("sealed n=%d size=%dMB ref=limit", many, size/1e6), mb(peak), mb(peakLimit), peak/peakLimit, 1)
}

func mb(n float64) string { return fmt.Sprintf("%.0fMB", n) }

// sendMany submits through several sessions at once.
func sendMany(b *testing.B, g *stack.Gateway, many int) {
	b.Helper()
	const sessions = 4
	var all sync.WaitGroup
	for k := range sessions {
		s := submitThrough(b, g, stack.Alice)
		all.Go(func() {
			for i := k; i < many && !b.Failed(); i += sessions {
				s.send(stack.Alice, stack.Erin, note(fmt.Sprintf("sealed-%d", i), stack.Alice, stack.Erin))
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// waitFor waits until the provider has delivered all of them.
func waitFor(b *testing.B, w *wire, many int) {
	b.Helper()
	deadline := time.Now().Add(10 * time.Minute)
	for {
		w.do("STATUS INBOX (MESSAGES)")
		_, text, _ := strings.Cut(w.last, "(MESSAGES ")
		text, _, _ = strings.Cut(text, ")")
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatalf("answer to STATUS: %q", w.last)
		}
		if n >= many {
			w.do("SELECT INBOX")
			return
		}
		if time.Now().After(deadline) {
			b.Fatal("the mail was not delivered")
		}
		time.Sleep(time.Second) // the provider delivers; there is nothing to wait on
	}
}

// bareOpen does what opening a bulk part cannot avoid: decode the base64,
// decrypt chunks of 64 KiB, hash them.
func bareOpen(b *testing.B, text []byte) {
	octets, err := io.ReadAll(base64.NewDecoder(base64.StdEncoding, bytes.NewReader(text)))
	if err != nil {
		b.Fatal(err)
	}
	var key [chacha20poly1305.KeySize]byte
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		b.Fatal(err)
	}
	nonce := make([]byte, aead.NonceSize())
	out := make([]byte, 0, 64<<10+16)
	for len(octets) > 0 {
		n := min(len(octets), 64<<10)
		out = aead.Seal(out[:0], nonce, octets[:n], nil) // as much work as opening
		_ = sha256.Sum256(out)
		octets = octets[n:]
	}
}

// memory is a figure of the gateway's process, in MB.
func memory(b *testing.B, g *stack.Gateway, what string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.PID()))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), what+":")
	if !ok {
		b.Fatalf("no %s in %s", what, text)
	}
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		b.Fatal(err)
	}
	return kb / 1000
}
