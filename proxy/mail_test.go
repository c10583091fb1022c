package proxy_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/world"
)

const (
	alice = gatewaytest.Alice
	bob   = gatewaytest.Bob
	carol = gatewaytest.Carol
	oscar = gatewaytest.Oscar
)

// letter is a message with a Message-ID made from its name.
func letter(name, from string, to ...string) world.Letter {
	return world.Letter{
		From: from, To: to, Subject: "about " + name, Date: "Mon, 23 Nov 2026 10:00:00 +0100",
		MessageID: "<" + name + "@" + from[strings.IndexByte(from, '@')+1:] + ">",
		Body:      "This is " + name + ".\n",
	}
}

// answer makes l an answer to the message with the given id.
func answer(l world.Letter, ids ...string) world.Letter {
	l.InReplyTo = ids[len(ids)-1]
	l.References = strings.Join(ids, " ")
	return l
}

// opens checks that the person reads the letter byte for byte, encrypted and
// authentic, and that their provider holds none of it. It is verified if the
// sender's key was compared.
func opens(t *testing.T, w *gatewaytest.World, name, mailbox string, l world.Letter) *world.Mail {
	t.Helper()
	return opensAs(t, w, name, mailbox, l, w.Compared(name, world.BareAddress(l.From)))
}

func opensAs(t *testing.T, w *gatewaytest.World, name, mailbox string, l world.Letter, verified bool) *world.Mail {
	t.Helper()
	m := w.Read(name, mailbox, l.MessageID)
	want := l
	want.Bcc = nil
	if got := w.Inner(m); !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%s reads\n%s\nwant\n%s", name, got, want.Bytes())
	}
	if !m.Has(imapd.KeywordEncrypted) || m.Has(imapd.KeywordVerified) != verified || m.Has(imapd.KeywordWarning) {
		t.Errorf("%s sees the keywords %v, status %q", name, m.Flags, m.Status())
	}
	verdict := map[bool]string{true: "verified", false: "authentic"}[verified]
	token := w.Person(name).Device().StatusToken()
	if wantStatus := token + "; " + verdict + "; sender=" + world.BareAddress(l.From); !strings.HasPrefix(m.Status(), wantStatus) {
		t.Errorf("%s sees the status %q, want %q", name, m.Status(), wantStatus)
	}
	return m
}

// cannotOpen checks that the person has the letter and sees none of it.
func cannotOpen(t *testing.T, w *gatewaytest.World, name, mailbox, secret string) {
	t.Helper()
	for _, m := range w.All(name, mailbox) {
		if gatewaytest.Holds(m.Content, secret) {
			t.Errorf("%s reads\n%s", name, m.Content)
		}
	}
}

func TestDialogWithRepliesAndAttachment(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	first := letter("one", alice, "Bob <"+bob+">")
	w.Send("alice", first)
	opens(t, w, "bob", "INBOX", first)

	second := answer(letter("two", bob, alice), first.MessageID)
	w.Send("bob", second)
	opens(t, w, "alice", "INBOX", second)

	third := answer(letter("three", alice, bob), first.MessageID, second.MessageID)
	third.Extra = []string{"MIME-Version: 1.0", `Content-Type: multipart/mixed; boundary="b"`}
	third.Body = "--b\nContent-Type: text/plain\n\nlook\n--b\n" +
		"Content-Type: application/octet-stream\nContent-Transfer-Encoding: base64\n\n" + attachment(300<<10) + "--b--\n"
	w.Send("alice", third)
	opens(t, w, "bob", "INBOX", third)

	for _, secret := range []string{"This is one", "This is two", "about one", "about three", "multipart/mixed"} {
		if w.Leaks(secret) {
			t.Errorf("a provider holds %q", secret)
		}
	}
}

// attachment is base64 of n octets, in lines.
func attachment(n int) string {
	r := rand.NewChaCha8([32]byte{1})
	raw := make([]byte, n)
	_, _ = r.Read(raw) // never fails
	var b strings.Builder
	enc := base64.StdEncoding.EncodeToString(raw)
	for len(enc) > 0 {
		k := min(76, len(enc))
		b.WriteString(enc[:k] + "\n")
		enc = enc[k:]
	}
	return b.String()
}

// TestFlaw35_TextSurvives: every octet comes out as it went in, whatever the
// script, and large texts do as well.
func TestFlaw35_TextSurvives(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	text := "Grüße 日本 😀 \x01\x7f ünïcödé — ﷽\n"
	for i, body := range []string{text, strings.Repeat(text, 200<<10/len(text)), strings.Repeat("ü", 900) + "\n.\n..\n"} {
		l := letter(fmt.Sprintf("text%d", i), alice, bob)
		l.Subject = "=?utf-8?q?Gr=C3=BC=C3=9Fe?="
		l.Extra = []string{"MIME-Version: 1.0", "Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: 8bit"}
		l.Body = body
		w.Send("alice", l)
		opens(t, w, "bob", "INBOX", l)
	}
}

func TestGroupGrowsAndIsLeft(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: append(gatewaytest.Three(), world.Spec{Name: "dave", Address: "dave@example.net"})})
	const dave = "dave@example.net"
	first := letter("g1", alice, bob, carol)
	w.Send("alice", first)
	opens(t, w, "bob", "INBOX", first)
	opens(t, w, "carol", "INBOX", first)
	id := conversationOf(t, w, "alice", bob, carol)

	// A fourth person joins by being put in Cc; the conversation stays.
	second := answer(letter("g2", bob, alice, carol), first.MessageID)
	second.Cc = []string{dave}
	w.Send("bob", second)
	for _, name := range []string{"alice", "carol", "dave"} {
		opens(t, w, name, "INBOX", second)
	}
	if got := conversationOf(t, w, "bob", alice, carol, dave); got != id {
		t.Errorf("conversation changed from %s to %s", id, got)
	}

	// A side reply leaves carol out: nobody is expelled, she reads nothing of it.
	side := answer(letter("g3", dave, alice, bob), first.MessageID, second.MessageID)
	side.Body = "carol must not read this\n"
	w.Send("dave", side)
	opens(t, w, "alice", "INBOX", side)
	opens(t, w, "bob", "INBOX", side)
	sideID := conversationOf(t, w, "dave", alice, bob)
	if sideID == id {
		t.Error("the side reply changed the group")
	}
	// Even with the ciphertext in hand.
	w.Deliver("carol", lastStored(t, w, "alice", "INBOX"))
	cannotOpen(t, w, "carol", "INBOX", "carol must not read this")

	// Later answers to it follow it; the group itself is whole.
	third := answer(letter("g4", alice, bob, dave), first.MessageID, side.MessageID)
	w.Send("alice", third)
	opens(t, w, "bob", "INBOX", third)
	if got := conversationOf(t, w, "alice", bob, dave); got != sideID {
		t.Errorf("the answer went to %s, want %s", got, sideID)
	}
	all := answer(letter("g5", carol, alice, bob, dave), first.MessageID, second.MessageID)
	w.Send("carol", all)
	opens(t, w, "dave", "INBOX", all)
	if got := conversationOf(t, w, "carol", alice, bob, dave); got != id {
		t.Errorf("the group's thread moved to %s, want %s", got, id)
	}
}

func TestRemovedForGood(t *testing.T) {
	t.Parallel()
	people := gatewaytest.Three()
	people[0].Policy.Omitted = "remove"
	people = append(people, world.Spec{Name: "dave", Address: "dave@example.net"})
	const dave = "dave@example.net"
	w := gatewaytest.New(t, gatewaytest.Options{People: people})
	first := letter("r1", alice, bob, carol, dave)
	w.Send("alice", first)
	opens(t, w, "carol", "INBOX", first)
	id := conversationOf(t, w, "alice", bob, carol, dave)

	second := answer(letter("r2", alice, bob, dave), first.MessageID)
	second.Body = "carol is out\n"
	w.Send("alice", second)
	opens(t, w, "bob", "INBOX", second)
	if got := conversationOf(t, w, "alice", bob, dave); got != id {
		t.Errorf("the id changed from %s to %s", id, got)
	}
	w.Deliver("carol", lastStored(t, w, "bob", "INBOX"))
	cannotOpen(t, w, "carol", "INBOX", "carol is out")
	// What she got before stays readable.
	opens(t, w, "carol", "INBOX", first)
	// She goes on in a conversation of exactly the people she addresses.
	third := answer(letter("r3", carol, alice, bob, dave), first.MessageID)
	w.Send("carol", third)
	opens(t, w, "alice", "INBOX", third)
	if got := conversationOf(t, w, "carol", alice, bob, dave); got == id {
		t.Error("a removed member writes into the group")
	}
}

func TestSelfMail(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	note := letter("note", alice, alice)
	w.Send("alice", note)
	opens(t, w, "alice", "INBOX", note)
	// Oneself among others is fine, too.
	both := letter("both", alice, bob, alice)
	w.Send("alice", both)
	opens(t, w, "alice", "INBOX", both)
	opens(t, w, "bob", "INBOX", both)
	if w.Leaks("This is note") || w.Leaks("This is both") {
		t.Error("the provider reads it")
	}
}

// TestSecondDevice: with name and password alone everything can be read that
// the first device could, sent or received, draft or not.
func TestSecondDevice(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	w.Compare("alice", bob, carol)
	dialog := letter("d1", alice, bob)
	w.Send("alice", dialog)
	reply := answer(letter("d2", bob, alice), dialog.MessageID)
	w.Send("bob", reply)
	group := letter("d3", carol, alice, bob)
	w.Send("carol", group)
	opens(t, w, "alice", "INBOX", group)
	own := letter("d4", alice, bob)
	own.Bcc = []string{carol}
	if err := w.Program("alice").Append(t.Context(), "Sent", []string{`\Seen`}, own.Bytes()); err != nil {
		t.Fatal(err)
	}

	device, err := w.Person("alice").AddDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := device.Mail()
	for _, l := range []world.Letter{reply, group} {
		m, err := second.Find(t.Context(), "INBOX", l.MessageID)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(w.Inner(m), l.Bytes()) || !m.Has(imapd.KeywordVerified) {
			t.Errorf("second device: %v\n%s", m.Flags, m.Content)
		}
	}
	m, err := second.Find(t.Context(), "Sent", own.MessageID)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(w.Inner(m), own.Bytes()) {
		t.Errorf("second device, Sent copy: %s", m.Content)
	}
	// It writes as well, and both devices go on.
	for i, program := range []*world.MailProgram{second, w.Program("alice"), second} {
		l := answer(letter(fmt.Sprintf("d5%d", i), alice, bob), dialog.MessageID)
		if err := program.Send(t.Context(), alice, l.Recipients(), l.Bytes()); err != nil {
			t.Fatal(err)
		}
		opens(t, w, "bob", "INBOX", l)
	}
}

// TestSeedFlaw03_DatesAreNoSecurityInput: a message may claim any date; it
// changes neither what is plain nor what is verified.
func TestSeedFlaw03_DatesAreNoSecurityInput(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	for i, date := range []string{"Thu, 01 Jan 1970 00:00:00 +0000", "Fri, 31 Dec 2100 23:59:59 +0000", "yesterday", ""} {
		l := letter(fmt.Sprintf("date%d", i), alice, bob)
		l.Date = date
		w.Send("alice", l)
		opens(t, w, "bob", "INBOX", l)
	}
	// Plain text injected with a date before the conversation began is what it
	// is: plain, unmarked, byte for byte.
	forged := letter("forged", alice, bob)
	forged.Date = "Thu, 01 Jan 1970 00:00:00 +0000"
	w.Deliver("bob", forged.Bytes())
	m := w.Read("bob", "INBOX", forged.MessageID)
	if m.Has(imapd.KeywordEncrypted) || m.Has(imapd.KeywordVerified) || !bytes.Equal(m.Content, forged.Bytes()) {
		t.Errorf("plain text is shown as %v\n%s", m.Flags, m.Content)
	}
}
