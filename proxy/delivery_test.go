package proxy_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/mailtest"
	"github.com/cloudmls/gateway/internal/world"
	"github.com/cloudmls/gateway/proxy"
)

// TestUndeliverableBlindCopy: the copy of a blind recipient that the provider
// refuses after the submission was accepted is reported in INBOX, sealed.
func TestUndeliverableBlindCopy(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	provider := w.Provider("example.org")
	provider.Inject(mailtest.Fault{At: mailtest.SMTPRcpt, Match: bob, Skip: 1, Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "no such canary"})
	stored := make(chan struct{}, 10)
	provider.Inject(mailtest.Fault{At: mailtest.IMAPAppend, Match: "INBOX", Reached: func() { stored <- struct{}{} }})
	l := letter("half", alice, carol)
	l.Bcc = []string{bob}
	w.Send("alice", l)
	opens(t, w, "carol", "INBOX", l)
	<-stored
	var notice *world.Mail
	for notice == nil && t.Context().Err() == nil {
		for _, m := range w.All("alice", "INBOX") {
			if strings.Contains(world.Field(m.Content, "Subject"), "could not be delivered") {
				notice = &m
			}
		}
	}
	for _, want := range []string{bob, "no such canary", "Nothing was sent in clear"} {
		if !bytes.Contains(notice.Content, []byte(want)) {
			t.Errorf("the notice does not say %q:\n%s", want, notice.Content)
		}
	}
	if !notice.Has(imapd.KeywordEncrypted) || w.Leaks("no such canary") {
		t.Error("the notice is not sealed")
	}
}

// TestNotOpenedYet: a message whose keys cannot be had yet is explained, and the
// explanation does not change. (That it gets a new UID when the keys come is
// imapd's doing.)
func TestNotOpenedYet(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	device := w.Person("bob").Device()
	if err := device.Stop(); err != nil {
		t.Fatal(err)
	}
	l := letter("later", alice, bob)
	w.Send("alice", l)
	w.KeyServer().Intercept(world.HangUp)
	if err := device.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := lastMail(t, w, "bob")
	isStub(t, w, "bob", first)
	if again := lastMail(t, w, "bob"); again.UID != first.UID || !bytes.Equal(again.Content, first.Content) {
		t.Errorf("the explanation changed:\n%s\nthen\n%s", first.Content, again.Content)
	}
	// An answer to what could not be read is an answer to an encrypted message.
	w.KeyServer().Intercept(nil)
	w.Refused("bob", answer(letter("blind-answer", bob, oscar), l.MessageID), 550)
}

func TestConversationTokenInReferences(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	first := letter("t1", alice, bob, carol)
	w.Send("alice", first)
	opens(t, w, "bob", "INBOX", first)
	id := conversationOf(t, w, "alice", bob, carol)
	outer := lastStored(t, w, "bob", "INBOX")
	token := "<" + id.String() + "@conversation.cloudmls>"
	if !strings.Contains(world.Field(outer, "References"), token) {
		t.Fatalf("no token in\n%s", outer)
	}
	// Somebody answers the ciphertext itself, in a program without a gateway;
	// the answer to that names the conversation, and stays encrypted.
	reply := letter("t2", bob, oscar)
	reply.References = "<webmail@example.com> " + token
	w.Refused("bob", reply, 550)
	reply = letter("t3", bob, alice, carol)
	reply.References = "<webmail@example.com> " + token
	w.Send("bob", reply)
	opens(t, w, "carol", "INBOX", reply)
	if got := conversationOf(t, w, "bob", alice, carol); got != id {
		t.Errorf("the answer went to %s, want %s", got, id)
	}
	// All messages of a thread share the subject outside, others do not.
	subject := func(name string) string { return world.Field(lastStored(t, w, name, "INBOX"), "Subject") }
	answer1 := answer(letter("t4", carol, alice, bob), first.MessageID)
	w.Send("carol", answer1)
	if got, want := subject("bob"), world.Field(outer, "Subject"); got != want {
		t.Errorf("subject of the answer %q, want %q", got, want)
	}
	w.Send("carol", letter("t5", carol, alice, bob))
	if got := subject("bob"); got == world.Field(outer, "Subject") {
		t.Errorf("another thread has the same subject %q", got)
	}
}

func TestHideThreading(t *testing.T) {
	t.Parallel()
	people := gatewaytest.Two()
	people[0].Policy = proxy.Policy{HideThreading: true}
	w := gatewaytest.New(t, gatewaytest.Options{People: people})
	seen := map[string]bool{}
	for _, name := range []string{"h1", "h2"} {
		l := answer(letter(name, alice, bob), "<root@example.org>", "<middle@example.org>")
		w.Send("alice", l)
		opens(t, w, "bob", "INBOX", l)
		outer := lastStored(t, w, "bob", "INBOX")
		if world.Field(outer, "References")+world.Field(outer, "In-Reply-To") != "" {
			t.Errorf("threading shows in\n%s", outer)
		}
		seen[world.Field(outer, "Subject")] = true
	}
	if len(seen) != 2 {
		t.Error("two messages share a token")
	}
}

func TestMissingFieldsAreMadeOutsideOnly(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	w.Compare("bob", alice)
	l := world.Letter{From: alice, To: []string{bob}, Subject: "bare", Body: "no date, no id\n"}
	w.Send("alice", l)
	m := lastMail(t, w, "bob")
	if !bytes.Equal(w.Inner(m), l.Bytes()) || !m.Has(imapd.KeywordVerified) {
		t.Errorf("%v\n%s", m.Flags, m.Content)
	}
	outer := lastStored(t, w, "bob", "INBOX")
	id := world.Field(outer, "Message-ID")
	if id == "" || world.Field(outer, "Date") == "" {
		t.Errorf("missing outside:\n%s", outer)
	}
	// Whoever answers the ciphertext names the outer id.
	reply := letter("bare-answer", bob, oscar)
	reply.InReplyTo = id
	w.Refused("bob", reply, 550)
}

// TestMalformedHeaders: what cannot be understood is not guessed.
func TestMalformedHeaders(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	for name, header := range map[string]string{
		"two From":   "From: " + alice + "\r\nFrom: " + alice + "\r\nTo: " + bob + "\r\n",
		"no From":    "To: " + bob + "\r\n",
		"two To":     "From: " + alice + "\r\nTo: " + bob + "\r\nTo: " + bob + "\r\n",
		"broken To":  "From: " + alice + "\r\nTo: <" + bob + "\r\n",
		"bad domain": "From: " + alice + "\r\nTo: x@-\r\n",
	} {
		message := []byte(header + "Subject: x\r\n\r\nbody of " + name + "\r\n")
		if err := w.Program("alice").Send(t.Context(), alice, []string{bob}, message); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	nothingSent(t, w, "example.org", 0)
}
