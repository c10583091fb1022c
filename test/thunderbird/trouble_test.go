package thunderbird

import (
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// refusing: a message that is not sent says so in words that a person
// understands, and nothing leaves.
func (w *world) refusing(t *testing.T) {
	refused := func(a args, words ...string) {
		t.Helper()
		a["account"], a["text"] = stack.Alice, "x "+w.secret()
		r := call[composed](t, w.tb, "compose", a)
		if r.OK {
			t.Errorf("compose %v: sent", a)
		}
		var shown []string
		for _, e := range w.tb.notices(t) {
			shown = append(shown, e.Text)
		}
		text := strings.Join(shown, "\n")
		if len(shown) != 1 {
			t.Errorf("compose %v: %d notices instead of one: %q", a, len(shown), text)
		}
		for _, word := range words {
			if !strings.Contains(text, word) {
				t.Errorf("compose %v: the dialog lacks %q:\n%s", a, word, text)
			}
		}
		t.Logf("the user reads: %s", text)
		for _, m := range w.tb.list(t, stack.Alice, "sent") {
			if m.Subject == a["subject"] {
				t.Errorf("compose %v: there is a copy in Sent", a)
			}
		}
	}

	// The provider refuses somebody who is unknown to it, in its own words.
	refused(args{"to": "nobody@a.test", "subject": "unknown there"}, "<nobody@a.test>: Recipient address rejected: User unknown in virtual mailbox table")
	// One can read encrypted mail, the other cannot.
	refused(args{"to": stack.Erin, "cc": heidi, "subject": "mixed " + w.secret()},
		"Not sent: heidi@b.test cannot read encrypted mail, while erin@b.test can.", "Send to them separately, or leave the first out.")
	// An answer to an encrypted message would leave in clear.
	l := letter{id: "<trouble-sealed@b.test>", from: stack.Erin, to: stack.Alice, subject: "Secret " + w.secret(), text: w.secret()}
	submit(t, w.erin, stack.Erin).send(t, l.bytes(), stack.Alice)
	w.delivered(t, stack.Alice, l.id)
	refused(args{"mode": "reply", "folder": "inbox", "id": bare(l.id), "to": heidi, "subject": "Fw " + w.secret()},
		"Not sent: this message answers an encrypted one, and heidi@b.test cannot read encrypted mail.")
	// The key server is away: no guess is made.
	w.KeyServer.Stop()
	refused(args{"to": stack.Dave, "subject": "away " + w.secret()},
		"Not sent: the key server did not say whether dave@a.test can read encrypted mail", "Nothing was sent in clear. Try again in a few minutes.")
	w.KeyServer.Start(stack.KeyServerReady)
	w.tb.compose(t, args{"account": stack.Alice, "to": stack.Erin, "subject": "back " + w.secret(), "text": "x\n"})
}

// restarting: the gateway ends and comes back while Thunderbird is connected,
// then Thunderbird does. Nobody is asked anything; mail arrives, opens and can
// be sent.
func (w *world) restarting(t *testing.T) {
	for _, how := range []struct {
		name string
		end  func()
	}{{"stop", w.alice.Stop}, {"kill", w.alice.Kill}} {
		call[any](t, w.tb, "openFolder", args{"account": stack.Alice})
		how.end()
		w.alice.Start(stack.GatewayReady)
		l := letter{id: "<restart-" + how.name + "@b.test>", from: stack.Erin, to: stack.Alice, subject: "After " + w.secret(), text: how.name}
		submit(t, w.erin, stack.Erin).send(t, l.bytes(), stack.Alice)
		w.alice.Mail(stack.Alice).Arrives("INBOX", l.id)
		call[any](t, w.tb, "getMessages", args{"account": stack.Alice})
		w.tb.find(t, stack.Alice, "inbox", l.id)
		if got := w.tb.read(t, stack.Alice, "inbox", l.id); strings.TrimSpace(got.Body) != how.name {
			t.Errorf("after a %s: %q", how.name, got.Body)
		}
		m := w.tb.compose(t, args{"account": stack.Alice, "to": stack.Erin, "subject": "Again " + w.secret(), "text": "x\n"})
		sealed(t, stack.Alice, "Sent", m.MessageID)

		since := w.tb.mark(t) // and IDLE works again
		l.id = "<restart-" + how.name + "-push@b.test>"
		submit(t, w.erin, stack.Erin).send(t, l.bytes(), stack.Alice)
		w.tb.arrives(t, stack.Alice, l.id, since)
	}

	// Thunderbird itself ends and starts again: it remembers the passwords.
	call[any](t, w.tb, "restart", nil)
	w.tb.known = 0
	w.tb.begin(t, stack.Alice)
	w.tb.find(t, stack.Alice, "inbox", "<restart-kill-push@b.test>")
}
