package proxy_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/world"
)

// TestThreat65_BlindRecipients: the address of a blind recipient is in no copy
// of anybody else, in no roster, and in no envelope but its own.
func TestThreat65_BlindRecipients(t *testing.T) {
	t.Parallel()
	people := append(gatewaytest.Three(), world.Spec{Name: "dave", Address: "dave@example.net"})
	w := gatewaytest.New(t, gatewaytest.Options{People: people})
	const dave = "dave@example.net"
	l := letter("blind", alice, bob)
	l.Cc, l.Bcc = []string{carol}, []string{dave}
	w.Send("alice", l)

	opens(t, w, "bob", "INBOX", l)
	opens(t, w, "carol", "INBOX", l)
	m := opens(t, w, "dave", "INBOX", l)
	if !strings.Contains(m.Status(), "blind copy") {
		t.Errorf("dave is not told: %q", m.Status())
	}
	for _, name := range []string{"bob", "carol"} {
		for _, mail := range w.All(name, "INBOX") {
			if gatewaytest.Holds(mail.Content, dave) || strings.Contains(mail.Status(), "blind") {
				t.Errorf("%s sees dave in\n%s", name, mail.Content)
			}
		}
		for _, s := range w.Stored(name, "INBOX") {
			if gatewaytest.Holds(s.Content, dave) {
				t.Errorf("dave shows in what the provider of %s stores", name)
			}
		}
	}
	subs := w.Provider("example.org").Submissions()
	if len(subs) != 2 {
		t.Fatalf("%d transactions, want 2", len(subs))
	}
	for _, s := range subs {
		for _, r := range s.Recipients {
			if (r == dave) != (len(s.Recipients) == 1) {
				t.Errorf("an envelope holds %v", s.Recipients)
			}
		}
	}
	conversationOf(t, w, "bob", alice, carol) // the group without dave
	// Bcc alone, and to oneself.
	only := letter("only-blind", alice)
	only.Bcc = []string{bob, alice}
	w.Send("alice", only)
	opens(t, w, "bob", "INBOX", only)
	opens(t, w, "alice", "INBOX", only)
}

// TestThreat66_DraftsAndSentCopies: what a mail program files is sealed, comes
// back byte for byte, and starts nothing.
func TestThreat66_DraftsAndSentCopies(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	draft := letter("draft", alice, bob)
	draft.Bcc = []string{oscar}
	draft.Body = "a very secret draft\n"
	program := w.Program("alice")
	if err := program.Append(t.Context(), "Drafts", []string{`\Draft`}, draft.Bytes()); err != nil {
		t.Fatal(err)
	}
	l := letter("filed", alice, bob)
	l.Bcc = []string{alice}
	w.Send("alice", l)
	if err := program.Append(t.Context(), "Sent", []string{`\Seen`}, l.Bytes()); err != nil {
		t.Fatal(err)
	}
	for mailbox, want := range map[string]world.Letter{"Drafts": draft, "Sent": l} {
		m := w.Read("alice", mailbox, want.MessageID)
		if !bytes.Equal(w.Inner(m), want.Bytes()) {
			t.Errorf("%s: got\n%s\nwant\n%s", mailbox, m.Content, want.Bytes())
		}
		if !m.Has(imapd.KeywordEncrypted) || m.Has(imapd.KeywordVerified) || m.Has(imapd.KeywordWarning) {
			t.Errorf("%s: keywords %v", mailbox, m.Flags)
		}
	}
	if m := w.Read("alice", "Drafts", draft.MessageID); !m.Has(`\Draft`) {
		t.Errorf("the draft's flags are %v", m.Flags)
	}
	for _, secret := range []string{"a very secret draft", "about draft", "about filed", "This is filed", oscar} {
		if w.Leaks(secret) {
			t.Errorf("the provider holds %q", secret)
		}
	}
	if stored := w.Stored("alice", "Drafts"); gatewaytest.Holds(stored[0].Content, bob) {
		t.Error("a draft shows outside whom it is for")
	}
	// Saving again stores other octets: nothing is told about what changed.
	if err := program.Append(t.Context(), "Drafts", []string{`\Draft`}, draft.Bytes()); err != nil {
		t.Fatal(err)
	}
	if s := w.Stored("alice", "Drafts"); len(s) != 2 || bytes.Equal(s[0].Content, s[1].Content) {
		t.Error("the same draft has the same ciphertext")
	}
}
