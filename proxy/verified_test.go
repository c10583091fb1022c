package proxy_test

import (
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/world"
)

// TestVerifiedMeansCompared: $MLSVerified needs people who have compared the
// sender's key; a message that is merely as it should be is authentic. The mark
// counts for what is opened from then on, on all devices of the user, and what
// was shown of a message never changes.
func TestVerifiedMeansCompared(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	first := letter("first", alice, bob)
	w.Send("alice", first)
	opensAs(t, w, "bob", "INBOX", first, false)

	w.Compare("bob", alice)
	second := letter("second", alice, bob)
	w.Send("alice", second)
	opensAs(t, w, "bob", "INBOX", second, true)
	opensAs(t, w, "bob", "INBOX", first, false)

	device, err := w.Person("bob").AddDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []world.Letter{first, second} {
		m, err := device.Mail().Find(t.Context(), "INBOX", l.MessageID)
		if err != nil {
			t.Fatal(err)
		}
		if !m.Has(imapd.KeywordVerified) || !strings.Contains(m.Status(), "; verified; sender="+alice) {
			t.Errorf("the other device: %v %q", m.Flags, m.Status())
		}
	}

	if err := w.Person("bob").Device().Client().Unverify(t.Context(), mailAccount(bob), mailAccount(alice)); err != nil {
		t.Fatal(err)
	}
	third := letter("third", alice, bob)
	w.Send("alice", third)
	opensAs(t, w, "bob", "INBOX", third, false)
	opensAs(t, w, "bob", "INBOX", second, true)

	// A forwarded one keeps its protection whatever it was called.
	for i, l := range []world.Letter{second, third} {
		f := letter("forward"+string(rune('0'+i)), bob, oscar)
		f.Body = "look\n\n" + string(w.Read("bob", "INBOX", l.MessageID).Content)
		w.Refused("bob", f, 550)
	}
}
