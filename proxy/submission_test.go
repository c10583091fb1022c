package proxy_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/world"
)

// TestRecipientsInSeveralSpellings: mail programs name a person twice, also in
// two spellings; each spelling is served once.
func TestRecipientsInSeveralSpellings(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	shout := strings.ToUpper(bob[:3]) + bob[3:]
	for name, recipients := range map[string][]string{
		"open":  {bob, shout},
		"blind": {bob, alice, "Alice@example.org", "ALICE@example.org"},
	} {
		l := letter("spelt-"+name, alice, bob)
		if err := w.Program("alice").Send(t.Context(), alice, recipients, l.Bytes()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestForeignSenderIsRefused: readers would be warned of a forgery.
func TestForeignSenderIsRefused(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	l := letter("by-oscar", alice, bob)
	l.Extra = []string{"Sender: " + oscar}
	if text := w.Refused("alice", l, 550); !strings.Contains(text, "Sender field") {
		t.Errorf("the reply is %q", text)
	}
	l = letter("by-herself", alice, bob)
	l.Extra = []string{"Sender: Alice <" + alice + ">"}
	w.Send("alice", l)
	opens(t, w, "bob", "INBOX", l)
}

// TestThreat60_ForwardsStayEncrypted: what was encrypted does not leave in
// clear inside another message.
func TestThreat60_ForwardsStayEncrypted(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	first := letter("sealed", alice, bob)
	w.Send("alice", first)
	shown := opens(t, w, "bob", "INBOX", first)

	inline := letter("inline", bob, oscar)
	inline.Extra = []string{"X-Forwarded-Message-Id: " + first.MessageID}
	attached := letter("attached", bob, oscar)
	attached.Extra = []string{"MIME-Version: 1.0", "Content-Type: multipart/mixed; boundary=x"}
	attached.Body = strings.Repeat("padding\n", 9000) + "--x\nContent-Type: message/rfc822\n\n" + string(shown.Content) + "\n--x--\n"
	for _, l := range []world.Letter{inline, attached} {
		if text := w.Refused("bob", l, 550); !strings.Contains(text, "never sent in clear") {
			t.Errorf("%s: %q", l.MessageID, text)
		}
	}
	nothingSent(t, w, "example.net", 0)
	// To somebody who can read it, it goes encrypted.
	attached.To, attached.MessageID = []string{alice}, "<attached-back@example.net>"
	w.Send("bob", attached)
	opens(t, w, "alice", "INBOX", attached)
}

// TestForwardAddsNobody: handing a group's message on to more people does not
// let them into the group, though mail programs name the message in References.
func TestForwardAddsNobody(t *testing.T) {
	t.Parallel()
	const dave = "dave@example.net"
	w := gatewaytest.New(t, gatewaytest.Options{People: append(gatewaytest.Three(), world.Spec{Name: "dave", Address: dave})})
	first := letter("sealed", alice, bob, carol)
	w.Send("alice", first)
	id := conversationOf(t, w, "alice", bob, carol)
	forward := letter("forward", alice, bob, carol, dave)
	forward.References = first.MessageID
	forward.Extra = []string{"X-Forwarded-Message-Id: " + first.MessageID}
	w.Send("alice", forward)
	if got := conversationOf(t, w, "alice", bob, carol); got != id {
		t.Errorf("the group of three is %s now, was %s", got, id)
	}
	if conversationOf(t, w, "alice", bob, carol, dave) == id {
		t.Error("dave was let into the group")
	}
}

// logLines collects what is logged.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestThreat82_RefusalsNameNobodyInTheLog: also errors of other packages, which
// name the accounts they are about, stay at debug level.
func TestThreat82_RefusalsNameNobodyInTheLog(t *testing.T) {
	t.Parallel()
	log := &logLines{}
	w, err := world.New(t.Context(), world.Options{
		Dir: t.TempDir(), People: gatewaytest.Two(),
		Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("stop the world: %v", err)
		}
	})
	send := func(l world.Letter) error {
		return w.Person("alice").Device().Mail().Send(t.Context(), alice, l.Recipients(), l.Bytes())
	}
	w.KeyServer().Intercept(world.HangUp)
	if err := send(letter("down", alice, bob)); err == nil {
		t.Error("sent without the key server")
	}
	if err := send(letter("down-outsider", alice, oscar)); err == nil {
		t.Error("sent without the key server")
	}
	for _, canary := range []string{alice, bob, oscar} {
		if strings.Contains(log.String(), canary) {
			t.Errorf("the log names %s:\n%s", canary, log)
		}
	}
}
