package proxy_test

import (
	"strings"
	"testing"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/gatewaytest"
)

// TestReplacedGroupShowsInMail: who reads mail hears from the mail itself that a
// conversation was begun anew with another group.
func TestReplacedGroupShowsInMail(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	first := letter("first", alice, bob)
	w.Send("alice", first)
	opens(t, w, "bob", "INBOX", first)

	dialog := groupid.Dialog("email", alice, bob)
	if _, err := w.Person("bob").Device().Client().Replace(t.Context(), mailAccount(bob), dialog); err != nil {
		t.Fatal(err)
	}
	second := letter("second", bob, alice)
	w.Send("bob", second)
	m := w.Read("alice", "INBOX", second.MessageID)
	if !m.Has(imapd.KeywordWarning) || m.Has(imapd.KeywordVerified) || !strings.Contains(m.Status(), "; warning=the conversation was begun anew with another group") {
		t.Errorf("alice sees %v, %q", m.Flags, m.Status())
	}
	opens(t, w, "bob", "INBOX", first) // what was shown stays
	third := letter("third", alice, bob)
	w.Send("alice", third)
	opens(t, w, "bob", "INBOX", third) // who did it knows
}
