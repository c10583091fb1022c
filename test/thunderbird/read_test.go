package thunderbird

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/stack"
)

// reading: encrypted text, HTML and an attachment are shown as they were sent.
func (w *world) reading(t *testing.T) {
	from := submit(t, w.erin, stack.Erin)
	file := make([]byte, 200<<10)
	for i := range file {
		file[i] = byte(w.source.Uint32())
	}
	letters := []letter{
		{id: "<read-text@b.test>", text: "Grüße aus Köln, " + w.secret()},
		{id: "<read-html@b.test>", html: "<p>Very <b>bold</b> " + w.secret() + "</p>"},
		{id: "<read-file@b.test>", text: "see attachment, " + w.secret(), file: file, name: "Übersicht " + w.secret() + ".bin"},
	}
	for _, l := range letters {
		l.from, l.to, l.subject = "Erin <erin@b.test>", stack.Alice, "Häuser "+w.secret()
		from.send(t, l.bytes(), stack.Alice)
		w.delivered(t, stack.Alice, l.id)
		got := w.tb.read(t, stack.Alice, "inbox", l.id)
		if got.ShownSubject != l.subject || got.Subject != l.subject {
			t.Errorf("%s: shown subject %q, listed %q, want %q", l.id, got.ShownSubject, got.Subject, l.subject)
		}
		if !strings.Contains(got.ShownFrom, "Erin") || !strings.Contains(got.ShownTo, stack.Alice) && !strings.Contains(got.ShownTo, "Alice") {
			t.Errorf("%s: shown from %q to %q", l.id, got.ShownFrom, got.ShownTo)
		}
		want := l.text
		if l.html != "" {
			want = strings.NewReplacer("<p>", "", "</p>", "", "<b>", "", "</b>", "").Replace(l.html)
		}
		if strings.TrimSpace(got.Body) != want {
			t.Errorf("%s: shown %q, want %q", l.id, got.Body, want)
		}
		if !strings.Contains(strings.ToLower(got.Keywords), "$mlsencrypted") || strings.Contains(strings.ToLower(got.Keywords), "$mlswarning") {
			t.Errorf("%s: keywords %q", l.id, got.Keywords)
		}
		if len(got.ShownNotifications) > 0 {
			t.Errorf("%s: Thunderbird warns: %q", l.id, got.ShownNotifications)
		}
		if l.file == nil {
			if len(got.Attachments) > 0 {
				t.Errorf("%s: has attachments: %+v", l.id, got.Attachments)
			}
		} else if len(got.Attachments) != 1 || got.Attachments[0].Name != l.name || got.Attachments[0].SHA256 != digest(l.file) {
			t.Errorf("%s: attachments %+v, want %q with SHA-256 %s", l.id, got.Attachments, l.name, digest(l.file))
		}
		sealed(t, stack.Alice, "INBOX", l.id, l.subject)
	}
}

// idleDelay is how long Thunderbird waits after its last command before it
// begins IDLE, and a little more.
const idleDelay = 3 * time.Second

// arrival: a message is shown by IDLE, and how long after the sender's 250: the
// first while Thunderbird waits, the others while it still works on the one
// before. The figures are printed; the test only demands that nobody has to
// press a button.
func (w *world) arrival(t *testing.T) {
	call[any](t, w.tb, "openFolder", args{"account": stack.Alice})
	from := submit(t, w.erin, stack.Erin)
	time.Sleep(idleDelay)
	var took []int64
	for _, id := range []string{"<idle-1@b.test>", "<idle-2@b.test>", "<idle-3@b.test>"} {
		l := letter{id: id, from: stack.Erin, to: stack.Alice, subject: "Push " + w.secret(), text: "now"}
		since := w.tb.mark(t)
		accepted := from.send(t, l.bytes(), stack.Alice)
		e := w.tb.arrives(t, stack.Alice, id, since)
		if e.Subject != l.subject {
			t.Errorf("arrived with subject %q, want %q", e.Subject, l.subject)
		}
		took = append(took, e.Time.Sub(accepted).Milliseconds())
	}
	t.Logf("thunderbird-idle-arrival waiting=%dms busy=%dms,%dms target=3000ms", took[0], took[1], took[2])
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
