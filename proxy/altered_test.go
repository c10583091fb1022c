package proxy_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/gatewaytest"
)

// TestThreat70_AlteredAttachmentIsExplained: the provider alters an attachment
// somewhere inside, in one of several messages. The mail program gets an
// explanation instead of that message, everything else of its FETCH, and the
// same again whenever it asks.
func TestThreat70_AlteredAttachmentIsExplained(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	w.Compare("bob", alice) // so that only what is wrong keeps a message from being verified
	l := letter("photo", alice, bob)
	l.Body = "canary-text\n" + strings.Repeat("canary-attachment and more of it\n", 20_000)
	w.Send("alice", l)
	opens(t, w, "bob", "INBOX", l)
	original := lastStored(t, w, "bob", "INBOX")
	lines := base64Line.FindAllIndex(original, -1)
	named := func(octets []byte, name string) []byte {
		return bytes.Replace(octets, []byte("<photo@"), []byte("<"+name+"@"), 1)
	}
	before := len(w.Stored("bob", "INBOX"))
	var damaged []string
	for i, tenth := range []int{2, 5, 9} {
		altered := bytes.Clone(original)
		at := lines[len(lines)*tenth/10][0] + 5
		altered[at] ^= 'A' ^ 'B' // one letter for another, mostly
		name := fmt.Sprintf("altered%d", i)
		damaged = append(damaged, "<"+name+"@example.org>")
		w.Deliver("bob", named(altered, name))
		w.Deliver("bob", named(original, fmt.Sprintf("whole%d", i)))
	}
	said, complete := rawFetch(t, w.Program("bob"), "INBOX")
	if !complete {
		t.Fatalf("the first message is not delivered: %.300s", said)
	}
	for round := range 3 {
		mails := w.All("bob", "INBOX")
		if len(mails) != before+6 {
			t.Fatalf("round %d: %d messages, want %d", round, len(mails), before+6)
		}
		found := 0
		for _, m := range mails {
			altered := false
			for _, id := range damaged {
				altered = altered || m.MessageID() == id
			}
			if !altered {
				if !m.Has(imapd.KeywordVerified) || !bytes.Equal(w.Inner(&m), l.Bytes()) {
					t.Errorf("round %d: a whole message is not what was sent: %v %.200q", round, m.Flags, m.Status())
				}
				continue
			}
			found++
			isStub(t, w, "bob", &m)
			if gatewaytest.Holds(m.Content, "canary") || !bytes.Contains(m.Content, []byte("damaged or replaced on the way")) {
				t.Errorf("round %d: shown\n%.600s", round, m.Content)
			}
		}
		if found != len(damaged) {
			t.Errorf("round %d: %d of %d altered messages are explained", round, found, len(damaged))
		}
		if round == 1 { // what is known survives a restart
			d := w.Person("bob").Device()
			if err := d.Stop(); err != nil {
				t.Fatal(err)
			}
			if err := d.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestTruncatedMessagesAreExplained: a sealed message of which the end is
// missing is an explanation, wherever it was cut off.
func TestTruncatedMessagesAreExplained(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	w.Compare("bob", alice) // so that only what is wrong keeps a message from being verified
	l := letter("long", alice, bob)
	l.Body = strings.Repeat("canary-large and more of it\n", 8000)
	w.Send("alice", l)
	opens(t, w, "bob", "INBOX", l)
	original := lastStored(t, w, "bob", "INBOX")
	lines := base64Line.FindAllIndex(original, -1)
	second := bytes.Index(original, []byte("Content-Type: application/octet-stream"))
	if second < 0 || len(lines) < 100 {
		t.Fatalf("ciphertext has an unexpected form:\n%.2000s", original)
	}
	before := len(w.Stored("bob", "INBOX"))
	control := lines[0]
	cuts := []int{lines[len(lines)-1][0], lines[len(lines)/2][1], second + 60, second - 40, control[0] + 5}
	for _, at := range cuts {
		w.Deliver("bob", original[:at])
	}
	garbled := bytes.Clone(original)
	copy(garbled[control[0]:control[1]-1], bytes.Repeat([]byte("!"), control[1]-1-control[0]))
	w.Deliver("bob", garbled)
	for range 2 {
		mails := w.All("bob", "INBOX")
		if len(mails) != before+len(cuts)+1 {
			t.Fatalf("%d messages", len(mails))
		}
		for _, m := range mails[before:] {
			isStub(t, w, "bob", &m)
			if gatewaytest.Holds(m.Content, "canary") {
				t.Errorf("released:\n%.300s", m.Content)
			}
		}
	}
}
