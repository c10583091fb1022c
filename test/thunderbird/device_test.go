package thunderbird

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// TestSecondDevice: another machine with a gateway that has the password alone
// and a Thunderbird that keeps no messages reads what the first one has: mail
// received and sent, drafts, and a large attachment in pieces.
func TestSecondDevice(t *testing.T) {
	w := newStack(t)
	dave, other := w.AddUser("dave", stack.Dave), w.AddUser("grace", grace)
	file := make([]byte, 3<<20)
	for i := range file {
		file[i] = byte(w.source.Uint32())
	}
	large := letter{id: "<device-large@b.test>", from: grace, to: stack.Dave, subject: "Large " + w.secret(), text: "see attachment", file: file, name: "large.bin"}
	submit(t, other, grace).send(t, large.bytes(), stack.Dave)
	dave.Mail(stack.Dave).Arrives("INBOX", large.id)

	first := startThunderbird(t, nil)
	first.setUp(t, dave, stack.Dave)
	body := w.secret()
	sent := first.compose(t, args{"account": stack.Dave, "to": grace, "subject": "Sent " + w.secret(), "text": body + "\n"})
	draft := first.compose(t, args{"account": stack.Dave, "to": grace, "subject": "Draft " + w.secret(), "text": body + "\n", "action": "draft"})
	first.quiet(t)

	second := w.AddDevice("dave2", "dave", stack.Dave)
	tb := startThunderbird(t, args{"mozLog": "IMAP:4", "prefs": args{
		"mail.server.default.offline_download": false, "mail.server.default.autosync_offline_stores": false}})

	// Without the certificate Thunderbird refuses, and tells the user.
	call[any](t, tb, "addAccount", account(t, second, stack.Dave))
	if _, err := try[any](t, tb, "login", args{"account": stack.Dave}); err == nil {
		t.Error("Thunderbird signs in without knowing the certificate")
	}
	if _, err := try[any](t, tb, "folders", args{"account": stack.Dave}); err == nil {
		t.Error("Thunderbird lists folders without knowing the certificate")
	}
	tb.warned(t, "The certificate for localhost does not come from a trusted source.")
	tb.warned(t, "The certificate is not trusted") // the window that offers an exception
	call[any](t, tb, "importCA", args{"pem": authority(t, second)})
	call[any](t, tb, "login", args{"account": stack.Dave})
	tb.folders(t, stack.Dave)

	for _, c := range []struct{ folder, id string }{{"sent", sent.MessageID}, {"drafts", draft.MessageID}} {
		tb.find(t, stack.Dave, c.folder, c.id)
		if got := tb.read(t, stack.Dave, c.folder, c.id); strings.TrimSpace(got.Body) != body {
			t.Errorf("%s on the second device: %q", c.folder, got.Body)
		}
	}
	listed := tb.find(t, stack.Dave, "inbox", large.id)
	if listed.Size < len(file)*4/3 {
		t.Errorf("the large message is listed with %d octets", listed.Size)
	}
	got := tb.read(t, stack.Dave, "inbox", large.id)
	if len(got.Attachments) != 1 || got.Attachments[0].SHA256 != digest(file) {
		t.Errorf("the large attachment: %+v, want SHA-256 %s", got.Attachments, digest(file))
	}
	if n := tb.chunks(t); n < 10 {
		t.Errorf("Thunderbird fetched in %d pieces; the large message should have come in many", n)
	}

	// It writes, too, and the first device sees that.
	answer := tb.compose(t, args{"account": stack.Dave, "mode": "reply", "folder": "inbox", "id": bare(large.id), "text": "got it " + w.secret() + "\n"})
	reader{other, grace}.opened(t, answer.MessageID)
	sealed(t, stack.Dave, "Sent", answer.MessageID, large.subject)
	first.find(t, stack.Dave, "sent", answer.MessageID)
	if got := first.read(t, stack.Dave, "sent", answer.MessageID); !strings.Contains(got.Body, "got it") {
		t.Errorf("the second device's mail reads %q on the first", got.Body)
	}
	first.quiet(t)
	tb.quiet(t)
	w.unreadable(t)
}

var partial = regexp.MustCompile(`(?i)UID fetch \d+ \(UID RFC822\.SIZE BODY(\.PEEK)?\[\]<\d+\.\d+>`)

// chunks counts the partial fetches in Thunderbird's own protocol log.
func (tb *thunderbird) chunks(t *testing.T) int {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(tb.dir, "mozlog*"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, l := range logs {
		b, err := os.ReadFile(l)
		if err != nil {
			t.Fatal(err)
		}
		n += len(partial.FindAll(b, -1))
	}
	return n
}
