package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/world"
	"github.com/cloudmls/gateway/proxy"
)

func TestPlainMailToAnOutsider(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	l := letter("plain", alice, oscar)
	l.Extra = []string{"X-Odd:  spaces \t kept ", "CloudMLS-Status: forged; verified"}
	l.Body = "In clear, with trailing space \n.dot\n\n"
	w.Send("alice", l)
	if got := lastStored(t, w, "oscar", "INBOX"); !bytes.HasSuffix(got, l.Bytes()) {
		t.Errorf("oscar got\n%q\nwant\n%q", got, l.Bytes())
	}
	back := answer(letter("back", oscar, alice), l.MessageID)
	back.Extra = []string{"CloudMLS-Status: forged; verified"}
	w.Send("oscar", back)
	m := w.Read("alice", "INBOX", back.MessageID)
	if stored := lastStored(t, w, "alice", "INBOX"); !bytes.Equal(m.Content, stored) {
		t.Errorf("plain mail was changed:\n%q\nwant\n%q", m.Content, stored)
	}
	if len(m.Flags) > 0 {
		t.Errorf("plain mail has the flags %v", m.Flags)
	}
}

func TestMixedRecipientsAreRefused(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	for name, l := range map[string]world.Letter{
		"to": {To: []string{bob, oscar}}, "cc": {To: []string{bob}, Cc: []string{oscar}},
		"bcc": {To: []string{bob}, Bcc: []string{oscar}}, "bcc encrypted": {To: []string{oscar}, Bcc: []string{bob}},
	} {
		l.From, l.Subject, l.MessageID, l.Body = alice, "mixed", "<"+strings.ReplaceAll(name, " ", "-")+"@example.org>", "mixed mail\n"
		if text := w.Refused("alice", l, 550); !strings.Contains(text, oscar) {
			t.Errorf("%s: the reply does not name oscar: %q", name, text)
		}
	}
	nothingSent(t, w, "example.org", 0)
}

func nothingSent(t *testing.T, w *gatewaytest.World, domain string, before int) {
	t.Helper()
	if n := len(w.Provider(domain).Submissions()); n != before {
		t.Errorf("the provider got %d submissions, want %d", n, before)
	}
}

// TestThreat60_AnswersStayEncrypted: an answer to an encrypted message never
// goes to somebody in clear, however it names the message.
func TestThreat60_AnswersStayEncrypted(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	first := letter("sealed", alice, bob)
	w.Send("alice", first)
	opens(t, w, "bob", "INBOX", first)
	for name, change := range map[string]func(*world.Letter){
		"in-reply-to": func(l *world.Letter) { l.InReplyTo = first.MessageID },
		"references":  func(l *world.Letter) { l.References = "<a@b.example> " + first.MessageID + " <c@d.example>" },
		"folded":      func(l *world.Letter) { l.References = "<a@b.example>\r\n " + first.MessageID },
	} {
		l := letter("leak-"+name, bob, oscar)
		change(&l)
		if text := w.Refused("bob", l, 550); !strings.Contains(text, "never sent in clear") {
			t.Errorf("%s: %q", name, text)
		}
	}
	nothingSent(t, w, "example.net", 0)
	// The sender's own message counts as well.
	own := letter("leak-own", alice, oscar)
	own.InReplyTo = first.MessageID
	w.Refused("alice", own, 550)
	// A new message to the same person is fine.
	w.Send("bob", letter("fresh", bob, oscar))
}

// TestThreat60_RulesDoNotWeakenAnswers: not even a rule that says "never".
func TestThreat60_RulesDoNotWeakenAnswers(t *testing.T) {
	t.Parallel()
	people := gatewaytest.Two()
	people[1].Policy.Domains = map[string]proxy.Mode{"example.com": proxy.ModeNever, "example.org": proxy.ModeNever}
	w := gatewaytest.New(t, gatewaytest.Options{People: people})
	first := letter("sealed", alice, bob)
	w.Send("alice", first)
	opens(t, w, "bob", "INBOX", first)
	w.Refused("bob", answer(letter("rule-outsider", bob, oscar), first.MessageID), 550)
	w.Refused("bob", answer(letter("rule-alice", bob, alice), first.MessageID), 550)
	nothingSent(t, w, "example.net", 0)
	w.Send("bob", letter("by-rule", bob, alice)) // the user's own word
	if !w.Leaks("This is by-rule") {
		t.Error("the rule was not followed")
	}
}

// failures are the ways in which a key server can fail to answer.
func failures() map[string]world.Intercept {
	json := func(status int, body string) world.Intercept { return world.Answer(status, "application/json", body) }
	return map[string]world.Intercept{
		"hangs up":       world.HangUp,
		"404":            world.Answer(http.StatusNotFound, "text/plain", "404 page not found"),
		"404 problem":    world.Answer(http.StatusNotFound, "application/problem+json", `{"status":404,"code":"not_found"}`),
		"500":            world.Answer(http.StatusInternalServerError, "text/html", "<html>oops</html>"),
		"503 problem":    world.Answer(http.StatusServiceUnavailable, "application/problem+json", `{"status":503}`),
		"garbage":        json(http.StatusOK, "\x00\x01garbage"),
		"empty":          json(http.StatusOK, ""),
		"empty object":   json(http.StatusOK, "{}"),
		"null":           json(http.StatusOK, "null"),
		"another answer": json(http.StatusOK, `{"has_account":false}`),
		"redirect":       world.Answer(http.StatusFound, "text/plain", ""),
	}
}

// TestFlaw09_FailOpenSending: whatever a key server does instead of answering,
// the client gets a temporary refusal with a reason, and nothing reaches the
// provider, neither in a new conversation nor in a known one.
func TestFlaw09_FailOpenSending(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	known := letter("known", alice, bob)
	w.Send("alice", known)
	before := len(w.Provider("example.org").Submissions())
	for name, intercept := range failures() {
		w.KeyServer().Intercept(intercept)
		for _, l := range []world.Letter{
			letter("again", alice, bob), letter("new", alice, carol), letter("group", alice, bob, carol),
			letter("outsider", alice, oscar), answer(letter("answer", alice, bob), known.MessageID),
		} {
			text := w.Refused("alice", l, 451)
			if !strings.Contains(text, "Try again") && !strings.Contains(text, "send again") {
				t.Errorf("%s: the reply gives no advice: %q", name, text)
			}
		}
	}
	nothingSent(t, w, "example.org", before)
	w.KeyServer().Intercept(nil)
	w.Send("alice", letter("after", alice, bob))
}

// TestSeedFlaw02_ServerDenyingAccountsDowngradesNobody: a server that says 404
// for a conversation's state, or that pretends people have no account, brings
// nobody to plain text who was written to before.
func TestSeedFlaw02_ServerDenyingAccountsDowngradesNobody(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	known := letter("known", alice, bob)
	w.Send("alice", known)
	opens(t, w, "bob", "INBOX", known)
	var denied atomic.Int64
	w.KeyServer().Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		id, ok := strings.CutPrefix(r.URL.Path, "/v1/reachable/email/")
		if !ok {
			return false
		}
		denied.Add(1)
		return world.Answer(http.StatusOK, "application/json",
			fmt.Sprintf(`{"account":{"platform":"email","id":%q},"has_account":false}`, id))(rw, r)
	})
	// The lie works where nothing is known yet: it is really told, and believed
	// where the design says so.
	stranger := letter("stranger", carol, bob)
	w.Send("carol", stranger)
	if !w.Leaks("This is stranger") {
		t.Error("the server's statement was not tried")
	}
	for _, from := range []string{"alice", "bob"} {
		l := letter("denied-"+from, alice, bob)
		if from == "bob" {
			l = letter("denied-"+from, bob, alice)
		}
		if err := w.Try(from, l); err != nil {
			t.Errorf("%s: %v, want it encrypted in the conversation that exists", from, err)
		}
	}
	if w.Leaks("This is denied") || w.Leaks("about denied") {
		t.Error("a message left in clear because the server denied an account")
	}
	// After a restart, from local and stored state alone, the same holds.
	device := w.Person("alice").Device()
	if err := device.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := device.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = w.Try("alice", letter("denied-later", alice, bob)) // refused or encrypted
	if w.Leaks("This is denied") {
		t.Error("a message left in clear after a restart")
	}
	if denied.Load() < 3 { // alice's gateway remembers an answer until it is started again
		t.Errorf("the server was asked %d times", denied.Load())
	}
}

// TestThreat67_AutomaticMailChangesNoGroup: reports, vacation notices and lists
// start no conversation; where one exists they stay encrypted.
func TestThreat67_AutomaticMailChangesNoGroup(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	var claims int
	w.KeyServer().Intercept(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost && strings.Contains(r.URL.Path, "/keypackages/") && strings.HasSuffix(r.URL.Path, "/claim") {
			claims++
		}
		return false
	})
	for name, extra := range map[string]string{
		"vacation": "Auto-Submitted: auto-replied", "list": "List-Id: <list.example.org>",
		"report": "Content-Type: multipart/report; report-type=delivery-status; boundary=b",
	} {
		l := letter(name, alice, bob)
		l.Extra = []string{extra}
		w.Refused("alice", l, 550)
	}
	l := letter("null", alice, bob)
	if err := w.Program("alice").Send(t.Context(), "", l.Recipients(), l.Bytes()); err == nil {
		t.Error("a message with the null path started a conversation")
	}
	if claims != 0 {
		t.Errorf("%d KeyPackages were claimed", claims)
	}
	nothingSent(t, w, "example.org", 0)

	first := letter("real", bob, alice)
	w.Send("bob", first)
	opens(t, w, "alice", "INBOX", first)
	vacation := answer(letter("away", alice, bob), first.MessageID)
	vacation.Extra = []string{"Auto-Submitted: auto-replied"}
	w.Send("alice", vacation)
	opens(t, w, "bob", "INBOX", vacation)
	if w.Leaks("This is away") {
		t.Error("a vacation notice left in clear")
	}
	// To an outsider they pass in clear as ever.
	list := letter("list-plain", alice, oscar)
	list.Extra = []string{"List-Id: <list.example.org>"}
	w.Send("alice", list)
}

// TestFlaw10_RemovalIsNeverSkipped: when somebody to be added has no usable
// KeyPackage, the removal of somebody else is not passed over in silence: the
// message is refused, and nobody reads it.
func TestFlaw10_RemovalIsNeverSkipped(t *testing.T) {
	t.Parallel()
	people := gatewaytest.Three()
	people[0].Policy.Omitted = "remove"
	const dave = "dave@example.net"
	people = append(people, world.Spec{Name: "dave", Address: dave}, world.Spec{Name: "erin", Address: "erin@example.net"})
	w := gatewaytest.New(t, gatewaytest.Options{People: people})
	first := letter("m1", alice, bob, carol, "erin@example.net")
	w.Send("alice", first)
	before := len(w.Provider("example.org").Submissions())
	w.KeyServer().Intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost || !strings.Contains(r.URL.Path, "dave") {
			return false
		}
		return world.Answer(http.StatusNotFound, "application/problem+json", `{"status":404,"code":"no_key_package"}`)(rw, r)
	})
	second := answer(letter("m2", alice, bob, "erin@example.net", dave), first.MessageID)
	second.Body = "carol must not read this\n"
	w.Refused("alice", second, 451)
	nothingSent(t, w, "example.org", before)

	w.KeyServer().Intercept(nil)
	w.Send("alice", second)
	opens(t, w, "dave", "INBOX", second)
	w.Deliver("carol", lastStored(t, w, "bob", "INBOX"))
	cannotOpen(t, w, "carol", "INBOX", "carol must not read this")
}
