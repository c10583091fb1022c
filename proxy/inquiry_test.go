package proxy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/mailtest"
	"github.com/cloudmls/gateway/internal/world"
)

// TestThreat60_AnotherDeviceOpenedIt: a device that never saw an encrypted
// message does not let an answer to it go in clear.
func TestThreat60_AnotherDeviceOpenedIt(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	first := letter("sealed", alice, bob)
	w.Send("alice", first)
	opens(t, w, "bob", "INBOX", first)
	device, err := w.Person("bob").AddDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := device.Mail()
	send := func(l world.Letter) error { return second.Send(t.Context(), bob, l.Recipients(), l.Bytes()) }

	forwarded := letter("leak-forward", bob, oscar)
	forwarded.Extra = []string{"X-Forwarded-Message-Id: " + first.MessageID}
	for _, l := range []world.Letter{
		answer(letter("leak", bob, oscar), first.MessageID),
		answer(letter("leak-deep", bob, oscar), first.MessageID, "<elsewhere@example.com>"),
		forwarded,
	} {
		if err := send(l); err == nil || !strings.Contains(err.Error(), "never sent in clear") {
			t.Errorf("%s: %v", l.MessageID, err)
		}
	}
	nothingSent(t, w, "example.net", 0)

	// Answers to plain mail pass, also where the Sent copy was sealed.
	plain := letter("plain", bob, oscar)
	if err := send(plain); err != nil {
		t.Fatal(err)
	}
	if err := second.Append(t.Context(), "Sent", nil, plain.Bytes()); err != nil {
		t.Fatal(err)
	}
	back := answer(letter("back", oscar, bob), plain.MessageID)
	w.Send("oscar", back)
	if err := send(answer(letter("again", bob, oscar), plain.MessageID, back.MessageID)); err != nil {
		t.Errorf("an answer to plain mail: %v", err)
	}

	// What cannot be asked is not guessed.
	later := answer(letter("later", bob, oscar), "<nobody-knows@example.com>")
	for _, f := range []mailtest.Fault{
		{At: mailtest.IMAPConnect, Close: true}, {At: mailtest.IMAPLogin, Status: "NO"}, {At: mailtest.IMAPList, Status: "NO"},
		{At: mailtest.IMAPSelect, Match: "INBOX", Status: "NO"}, {At: mailtest.IMAPSearch, Status: "BAD"}, {At: mailtest.IMAPSearch, Close: true},
	} {
		remove := w.Provider("example.net").Inject(f)
		var reply *smtp.SMTPError
		if err := send(later); !errors.As(err, &reply) || reply.Code != 451 {
			t.Errorf("%s: %v", f.At, err)
		}
		remove()
	}
	if err := send(later); err != nil {
		t.Error(err)
	}
}
