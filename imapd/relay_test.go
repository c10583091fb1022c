package imapd_test

import (
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd"
)

const plainMail = "From: p@example.org\r\nSubject: plain\r\n\r\nplain body\r\n"
const innerMail = "From: Alice <a@example.org>\r\nTo: b@example.org\r\nSubject: secret plans\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nthe inner body\r\n"

func TestSealedMessageIsServedOpened(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", []byte(plainMail))
	w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
	w.deliver("INBOX", []byte(plainMail))
	c := w.login()
	sel := strings.Join(c.ok("SELECT INBOX"), "")
	if !strings.Contains(sel, imapd.KeywordVerified) {
		t.Errorf("SELECT does not announce our keywords:\n%s", sel)
	}
	if got := c.fetchLiteral("UID FETCH 2 BODY.PEEK[]"); got != statusField+innerMail {
		t.Errorf("got %q", got)
	}
	for _, s := range c.ok("FETCH 1:* (FLAGS UID RFC822.SIZE ENVELOPE BODYSTRUCTURE)") {
		t.Log(s)
	}
	for _, s := range c.ok("UID FETCH 1:* (FLAGS BODY[HEADER.FIELDS (Subject)])") {
		t.Log(s)
	}
	for _, s := range c.ok("FETCH 2 (FLAGS)") {
		t.Log(s)
	}
}
