package thunderbird

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// reader is somebody who reads with another mail client through a gateway.
type reader struct {
	g       *stack.Gateway
	address string
}

// opened waits for a message and returns it as the gateway serves it.
func (r reader) opened(t *testing.T, messageID string) string {
	t.Helper()
	c := r.g.Mail(r.address)
	return string(c.Fetch(c.Arrives("INBOX", "<"+bare(messageID)+">"), "BODY.PEEK[]").Str)
}

// field is a header field of a message, unfolded.
func field(msg, name string) string {
	header, _, _ := strings.Cut(msg, "\r\n\r\n")
	header = strings.NewReplacer("\r\n ", " ", "\r\n\t", " ").Replace(header)
	for l := range strings.SplitSeq(header, "\r\n") {
		if n, v, ok := strings.Cut(l, ":"); ok && strings.EqualFold(n, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// writing: a message with Cc to the other provider and Bcc; its copy in Sent.
func (w *world) writing(t *testing.T) {
	subject, body := "Plan "+w.secret(), "Zwölf Boxkämpfer "+w.secret()
	m := w.tb.compose(t, args{"account": stack.Alice, "to": stack.Bob, "cc": stack.Erin, "bcc": stack.Frank, "subject": subject, "text": body + "\n"})

	readers := []reader{{w.bob, stack.Bob}, {w.erin, stack.Erin}, {w.erin, stack.Frank}}
	for _, r := range readers {
		got := r.opened(t, m.MessageID)
		if !strings.Contains(got, body) || !strings.Contains(field(got, "Subject"), subject) {
			t.Errorf("%s reads:\n%s", r.address, got)
		}
		status := field(got, "CloudMLS-Status")
		if blind := strings.Contains(status, "blind copy"); !strings.Contains(status, "; authentic; ") || blind != (r.address == stack.Frank) {
			t.Errorf("%s: status %q", r.address, status)
		}
		if field(got, "Bcc") != "" {
			t.Errorf("%s sees a Bcc field:\n%s", r.address, got)
		}
		raw := sealed(t, r.address, "INBOX", m.MessageID, subject)
		if knows := strings.Contains(got, stack.Frank) || bytes.Contains(raw, []byte(stack.Frank)); knows && r.address != stack.Frank {
			t.Errorf("%s can see that Frank got a copy:\n%s\n%s", r.address, got, raw)
		}
	}

	// The copy that Thunderbird files: once, sealed, with its Bcc field inside.
	raw := sealed(t, stack.Alice, "Sent", m.MessageID, subject)
	if bytes.Contains(raw, []byte("frank")) {
		t.Errorf("the copy in Sent shows the blind recipient:\n%s", raw)
	}
	copied := w.tb.find(t, stack.Alice, "sent", m.MessageID)
	if copied.Subject != subject || !slices.Contains(copied.Flags, "Read") {
		t.Errorf("copy in Sent: %+v", copied)
	}
	source := call[struct{ Source string }](t, w.tb, "source", args{"account": stack.Alice, "folder": "sent", "id": m.MessageID}).Source
	if field(source, "Bcc") != stack.Frank {
		t.Errorf("the copy in Sent has the Bcc field %q, want %s", field(source, "Bcc"), stack.Frank)
	}
}

// answering: reply to all, from the other provider, and the flag on the original.
func (w *world) answering(t *testing.T) {
	subject := "Question " + w.secret()
	m := w.tb.compose(t, args{"account": stack.Alice, "to": stack.Erin, "cc": stack.Bob, "subject": subject, "text": "Who comes? " + w.secret() + "\n"})
	w.delivered(t, stack.Erin, m.MessageID)
	call[any](t, w.tb, "read", args{"account": stack.Erin, "id": m.MessageID})

	answer := "Me and " + w.secret()
	r := w.tb.compose(t, args{"account": stack.Erin, "mode": "replyAll", "folder": "inbox", "id": m.MessageID, "html": "<p>" + answer + "</p>"})
	w.delivered(t, stack.Alice, r.MessageID)
	got := w.tb.read(t, stack.Alice, "inbox", r.MessageID)
	if got.Subject != "Re: "+subject || !strings.Contains(got.Body, answer) || !strings.Contains(got.Body, "Who comes?") {
		t.Errorf("the answer reads %q: %q", got.Subject, got.Body)
	}
	if !slices.Equal(got.References, []string{m.MessageID}) {
		t.Errorf("the answer refers to %q, want %s", got.References, m.MessageID)
	}
	seen := reader{w.bob, stack.Bob}.opened(t, r.MessageID)
	if field(seen, "In-Reply-To") != "<"+m.MessageID+">" || field(seen, "References") != "<"+m.MessageID+">" {
		t.Errorf("Bob gets the answer with In-Reply-To %q and References %q", field(seen, "In-Reply-To"), field(seen, "References"))
	}
	if !strings.Contains(field(seen, "To"), stack.Alice) || !strings.Contains(field(seen, "Cc"), stack.Bob) {
		t.Errorf("Bob gets the answer to %q, cc %q", field(seen, "To"), field(seen, "Cc"))
	}
	for _, at := range []struct{ address, mailbox string }{{stack.Alice, "INBOX"}, {stack.Bob, "INBOX"}, {stack.Erin, "Sent"}} {
		sealed(t, at.address, at.mailbox, r.MessageID, subject)
	}
	if original := w.tb.find(t, stack.Erin, "inbox", m.MessageID); !slices.Contains(original.Flags, "Replied") {
		t.Errorf("the original is not marked as answered: %v", original.Flags)
	}
	if _, _, flags := stored(t, stack.Erin, "INBOX", m.MessageID); !strings.Contains(flags, `\Answered`) {
		t.Errorf("the original is not marked as answered at the provider: %s", flags)
	}
}

// drafting: a draft is saved, reopened, edited, saved, reopened and sent.
func (w *world) drafting(t *testing.T) {
	subject := "Draft " + w.secret()
	first := w.tb.compose(t, args{"account": stack.Alice, "to": stack.Erin, "subject": subject, "text": "one " + w.secret() + "\n", "action": "draft"})
	w.tb.find(t, stack.Alice, "drafts", first.MessageID)
	raw := sealed(t, stack.Alice, "Drafts", first.MessageID, subject)
	if bytes.Contains(raw, []byte("erin@")) {
		t.Errorf("the draft shows to whom it is to go:\n%s", raw)
	}

	second := w.tb.compose(t, args{"account": stack.Alice, "mode": "editDraft", "folder": "drafts", "id": first.MessageID, "text": "two " + w.secret() + " ", "action": "draft"})
	left := w.tb.find(t, stack.Alice, "drafts", second.MessageID)
	if left.Subject != subject {
		t.Errorf("the draft's subject is %q, want %q", left.Subject, subject)
	}
	if all := w.tb.list(t, stack.Alice, "drafts"); len(all) != 1 {
		t.Errorf("%d drafts are left, want one: %+v", len(all), all)
	}
	sealed(t, stack.Alice, "Drafts", second.MessageID, subject)

	sent := w.tb.compose(t, args{"account": stack.Alice, "mode": "editDraft", "folder": "drafts", "id": second.MessageID, "text": "three "})
	w.delivered(t, stack.Erin, sent.MessageID)
	got := w.tb.read(t, stack.Erin, "inbox", sent.MessageID)
	if words := strings.Fields(got.Body); len(words) != 5 || words[0] != "three" || words[1] != "two" || words[3] != "one" {
		t.Errorf("the sent draft reads %q", got.Body)
	}
	sealed(t, stack.Alice, "Sent", sent.MessageID, subject)
	if all := w.tb.list(t, stack.Alice, "drafts"); len(all) != 0 {
		t.Errorf("%d drafts are left after sending, want none: %+v", len(all), all)
	}
}
