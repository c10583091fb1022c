package imapd_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/cloudmls/gateway/imapd"
)

func joined(s []string) string { return strings.Join(s, "") }

// flagsOf returns the flags of a message by a FETCH.
func flagsOf(c *client, seq int) string { return fetchItem(c, seq, "FLAGS") }

func TestPlainAndSealedInOneFetch(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 40 {
		if i%3 == 0 {
			w.deliver("INBOX", seal([]byte(innerMail), sealOptions{bulk: i%2 == 0}))
		} else {
			w.deliver("INBOX", []byte(plainMail))
		}
	}
	c := w.login()
	c.ok("SELECT INBOX")
	for _, cmd := range []string{"FETCH 1:* ", "UID FETCH 1:* ", "FETCH *:1 ", "UID FETCH 1:20,21:4294967295 ", "UID FETCH 40:*,1:39 "} {
		got := c.ok(cmd + "(FLAGS BODY.PEEK[])")
		if len(got) != 40 {
			t.Errorf("%s: %d responses", cmd, len(got))
		}
		for i := range 40 {
			list := items(got, i+1)
			sealed := i%3 == 0
			want := fmt.Sprintf("{%d}\r\n%s", len(plainMail), plainMail)
			if sealed {
				want = fmt.Sprintf("{%d}\r\n%s", len(statusField+innerMail), statusField+innerMail)
			}
			if value(list, "BODY[]") != want {
				t.Errorf("%smessage %d: wrong content %q", cmd, i+1, value(list, "BODY[]"))
			}
			if strings.Contains(value(list, "FLAGS"), imapd.KeywordEncrypted) != sealed {
				t.Errorf("%smessage %d: flags %s", cmd, i+1, value(list, "FLAGS"))
			}
			if strings.HasPrefix(cmd, "UID") && value(list, "UID") != fmt.Sprint(i+1) {
				t.Errorf("%smessage %d: UID %s", cmd, i+1, value(list, "UID"))
			}
		}
	}
	for cmd, n := range map[string]int{"FETCH 1:10 (RFC822.SIZE)": 10, "FETCH 1,4 ENVELOPE": 2, "UID FETCH 2:3 FAST": 2, "UID FETCH 500:600 FULL": 0, "FETCH 4 ALL": 1, "FETCH 4 (ENVELOPE RFC822.TEXT)": 1} {
		got := 0
		for _, r := range c.ok(cmd) {
			if strings.Contains(r, "RFC822.SIZE") || strings.Contains(r, "ENVELOPE") {
				got++
			}
		}
		if got != n {
			t.Errorf("%s: %d responses, want %d", cmd, got, n)
		}
	}
	c.expect("FETCH 1:* (BODY.PEEK[] BINARY[1])", "NO [CANNOT]")
	c.expect("FETCH 1 (FLAGS BODY[1", "BAD")
	c.expect("FETCH 1:x BODY[]", "BAD")
}

func TestSeenIsSetOnceAndOnlyWithoutPeek(t *testing.T) {
	for _, tt := range []struct {
		item string
		seen bool
	}{
		{"BODY.PEEK[]", false}, {"BODY.PEEK[HEADER]", false}, {"RFC822.HEADER", false}, {"RFC822.SIZE", false},
		{"ENVELOPE", false}, {"BODY", false}, {"BODYSTRUCTURE", false}, {"FULL", false},
		{"BODY[]", true}, {"BODY[1]", true}, {"BODY[]<0.5>", true}, {"RFC822", true}, {"RFC822.TEXT", true}, {"(UID BODY[HEADER])", true},
	} {
		t.Run(tt.item, func(t *testing.T) {
			w := newWorld(t, nil)
			w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
			c := w.login()
			c.ok("SELECT INBOX")
			got := joined(c.ok("FETCH 1 " + tt.item))
			if n := strings.Count(got, "* 1 FETCH"); n != 1 {
				t.Errorf("%d responses: %q", n, got)
			}
			d := w.direct()
			d.ok("SELECT INBOX")
			if got := strings.Contains(strings.ToLower(flagsOf(d, 1)), `\seen`); got != tt.seen {
				t.Errorf("\\Seen at the provider: %v, want %v", got, tt.seen)
			}
			if tt.seen && !strings.Contains(strings.ToLower(got), `\seen`) {
				t.Errorf("the client is not told of \\Seen: %q", got)
			}
		})
	}
}

// TestThreat63_ForgedKeywordsNeverSurvive: nobody but the gateway sets our
// keywords, on sealed and on plain messages.
func TestThreat63_ForgedKeywordsNeverSurvive(t *testing.T) {
	w := newWorld(t, nil)
	forged := []imap.Flag{imapd.KeywordVerified, "$mlsENCRYPTED", "$MLSWARNING", "other"}
	w.deliver("INBOX", []byte(plainMail), forged...)
	w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}), imapd.KeywordWarning)
	c := w.login()
	has := func(s string) bool { return strings.Contains(strings.ToLower(s), "$mls") }
	if got := flagsOf(c2(c, "SELECT INBOX"), 1); has(got) || !strings.Contains(got, "other") {
		t.Errorf("plain message: %s", got)
	}
	if got := value(items(c.ok("FETCH 1 (BODY.PEEK[] FLAGS BODY.PEEK[HEADER])"), 1), "FLAGS"); has(got) {
		t.Errorf("plain message with content: %s", got)
	}
	want := "(" + imapd.KeywordEncrypted + " " + imapd.KeywordVerified + ")"
	for _, item := range []string{"FLAGS", "(FLAGS BODY.PEEK[])", "(BODY.PEEK[1] FLAGS UID)", "FULL"} {
		if got := value(items(c.ok("FETCH 2 "+item), 2), "FLAGS"); got != want {
			t.Errorf("sealed message, %s: %s", item, got)
		}
	}

	// Clients cannot set or remove them.
	c.expect("STORE 1 +FLAGS ($MLSVerified)", "NO [CANNOT]")
	c.expect("UID STORE 2 -FLAGS $MlsVerified", "NO [CANNOT]")
	if got := joined(c.ok(`STORE 1 +FLAGS ($mlsverified \Flagged)`)); has(got) {
		t.Errorf("answer to STORE: %s", got)
	}
	if got := joined(c.ok(`STORE 1 FLAGS ($MLSVerified mine)`)); has(got) || !strings.Contains(got, "mine") {
		t.Errorf("answer to STORE: %s", got)
	}
	if got := joined(c.ok(`STORE 2 FLAGS (\Seen)`)); !strings.Contains(got, imapd.KeywordVerified) {
		t.Errorf("STORE of all flags removes ours: %s", got)
	}
	c.ok(fmt.Sprintf("APPEND INBOX ($MLSVerified \\Seen) {%d+}\r\n%s", len(plainMail), plainMail))
	d := w.direct()
	d.ok("SELECT INBOX")
	for _, seq := range []int{1, 3} {
		if got := flagsOf(d, seq); has(got) {
			t.Errorf("message %d at the provider: %s", seq, got)
		}
	}
	// Nor do they come with updates from elsewhere.
	d.ok("STORE 1 +FLAGS ($MLSEncrypted late)")
	if got := joined(c.ok("NOOP")); has(got) || !strings.Contains(got, "late") {
		t.Errorf("unsolicited: %s", got)
	}
	d.ok(`STORE 2 +FLAGS ($MLSWarning later)`)
	if got := joined(c.ok("NOOP")); !strings.Contains(got, imapd.KeywordVerified) || strings.Contains(strings.ToLower(got), "$mlswarning") {
		t.Errorf("unsolicited: %s", got)
	}
}

// c2 runs a command and returns the client.
func c2(c *client, command string) *client {
	c.ok(command)
	return c
}

// TestSelectAnnouncesKeywords: only where there are sealed messages; a plain
// mailbox looks as at the provider.
func TestSelectAnnouncesKeywords(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("Work", []byte(plainMail), imapd.KeywordVerified, "x")
	c := w.login()
	got := joined(c.ok("SELECT Work"))
	if strings.Contains(strings.ToLower(got), "$mls") || !strings.Contains(got, "FLAGS (x)") {
		t.Errorf("plain mailbox: %s", got)
	}
	w.deliver("Work", seal([]byte(innerMail), sealOptions{}))
	c.ok("NOOP")
	got = joined(c.ok("FETCH 2 FLAGS"))
	flags, perm := strings.Index(got, "* FLAGS ("), strings.Index(got, "PERMANENTFLAGS (")
	if flags < 0 || perm < 0 || strings.Index(got, "* 2 FETCH") < perm || !strings.Contains(got[flags:perm], imapd.KeywordWarning) {
		t.Errorf("first sealed message: %s", got)
	}
	got = joined(c.ok("EXAMINE Work"))
	if strings.Count(got, imapd.KeywordEncrypted) != 2 {
		t.Errorf("mailbox with sealed messages: %s", got)
	}
}

func TestNewMessagesAreClassified(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", []byte(plainMail))
	c := w.login()
	c.ok("SELECT INBOX")
	w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
	w.deliver("INBOX", []byte(plainMail))
	// The provider has not told of them yet, or just now: both are right, the
	// sealed form is not.
	for range 3 {
		got := joined(c.ok("UID FETCH 2:* (FLAGS BODY.PEEK[])"))
		if strings.Contains(got, "vnd.cloudmls") {
			t.Fatalf("sealed form was shown: %q", got)
		}
	}
	c.ok("NOOP")
	if got := c.fetchLiteral("UID FETCH 2:* (FLAGS BODY.PEEK[])"); got != plainMail {
		t.Errorf("plain one comes first: %q", got)
	}
	if got := c.fetchLiteral("FETCH 2 (FLAGS BODY.PEEK[])"); got != statusField+innerMail {
		t.Errorf("got %q", got)
	}
	// Others expunge; numbers move.
	d := w.direct()
	d.ok("SELECT INBOX")
	d.ok(`STORE 1 +FLAGS (\Deleted)`)
	d.ok("EXPUNGE")
	c.ok("NOOP")
	if got := c.fetchLiteral("FETCH 1 BODY.PEEK[]"); got != statusField+innerMail {
		t.Errorf("after EXPUNGE: %q", got)
	}
	if got := c.fetchLiteral("FETCH 2 BODY.PEEK[]"); got != plainMail {
		t.Errorf("after EXPUNGE: %q", got)
	}
}

// TestIndexSparesClassification: what is known is not asked again.
func TestIndexSparesClassification(t *testing.T) {
	w := newWorld(t, nil)
	for range 5 {
		w.deliver("INBOX", []byte(plainMail))
		w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
	}
	c := w.login()
	c.ok("SELECT INBOX")
	first := joined(c.ok("FETCH 1:* (FLAGS)"))
	opened := w.backend.opened
	c.ok("LOGOUT")
	w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
	c = w.login()
	c.ok("SELECT INBOX")
	if got := joined(c.ok("FETCH 1:10 (FLAGS)")); got != first {
		t.Errorf("flags changed:\n%s%s", first, got)
	}
	if w.backend.opened != opened {
		t.Errorf("%d messages were opened again for their flags", w.backend.opened-opened)
	}
	if got := c.fetchLiteral("FETCH 11 BODY.PEEK[]"); got != statusField+innerMail {
		t.Errorf("new message: %q", got)
	}
}

func TestLargeMailboxIsSearched(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 1300 {
		switch {
		case i == 3:
			w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
		case i == 1200:
			w.deliver("INBOX", seal([]byte(innerMail), sealOptions{mangled: true}))
		default:
			w.deliver("INBOX", []byte(plainMail))
		}
	}
	c := w.login()
	c.ok("SELECT INBOX")
	for _, seq := range []int{4, 1201} {
		if got := c.fetchLiteral(fmt.Sprintf("FETCH %d BODY.PEEK[]", seq)); got != statusField+innerMail {
			t.Errorf("message %d: %q", seq, got)
		}
	}
	if n := len(c.ok("UID FETCH 1:* (RFC822.SIZE)")); n != 1300 {
		t.Errorf("%d responses", n)
	}
	if got := joined(c.ok("SEARCH RETURN (SAVE) UID 3:5")); strings.Contains(got, "BAD") {
		t.Fatal(got)
	}
	if n := len(c.ok("FETCH $ (UID RFC822.SIZE)")); n != 3 {
		t.Errorf("saved search: %d responses", n)
	}
}

// TestThreat59_OnlyOurShapeIsOpened: our parts inside a forwarded message, too
// deep, or without their sibling are not opened.
func TestThreat59_OnlyOurShapeIsOpened(t *testing.T) {
	w := newWorld(t, nil)
	good := string(seal([]byte(innerMail), sealOptions{}))
	_, body, _ := strings.Cut(good, "\r\n\r\n")
	wrap := func(boundary, typ, content string) string {
		return "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=" + boundary + "\r\n\r\n--" + boundary + "\r\nContent-Type: " + typ + "\r\n\r\n" + content + "\r\n--" + boundary + "--\r\n"
	}
	encrypted := `multipart/encrypted; boundary=sep`
	for name, msg := range map[string]string{
		"forwarded":   wrap("o", "message/rfc822", good),
		"too deep":    wrap("o1", "multipart/mixed; boundary=o2", "--o2\r\nContent-Type: multipart/mixed; boundary=o3\r\n\r\n--o3\r\nContent-Type: "+encrypted+"\r\n\r\n"+body+"\r\n--o3--\r\n--o2--\r\n"),
		"no sibling":  wrap("o", "application/vnd.cloudmls.control\r\nContent-Transfer-Encoding: base64", lines([]byte("I"+innerMail), 76, false)),
		"wrong order": wrap("o", "application/octet-stream", "x\r\n--o\r\nContent-Type: application/vnd.cloudmls.control\r\nContent-Transfer-Encoding: base64\r\n\r\n"+lines([]byte("I"+innerMail), 76, false)),
	} {
		w.deliver("Work", []byte(msg))
		c := w.login()
		sel := c.ok("SELECT Work")
		n := 0
		for _, s := range sel {
			if strings.HasSuffix(s, " EXISTS\r\n") {
				fmt.Sscanf(s, "* %d EXISTS", &n)
			}
		}
		if got := c.fetchLiteral(fmt.Sprintf("FETCH %d BODY.PEEK[]", n)); got != msg {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if w.backend.opened > 0 {
		t.Errorf("%d messages were opened", w.backend.opened)
	}
}

func TestBackendFailureIsAReadableNo(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", []byte(plainMail))
	w.deliver("INBOX", seal([]byte(innerMail), sealOptions{}))
	c := w.login()
	c.ok("SELECT INBOX")
	w.backend.openErr = errors.New("secret internals")
	got, tagged := c.do("FETCH 1:2 BODY[]")
	if !strings.HasPrefix(tagged, "NO [UNAVAILABLE] ") || strings.Contains(tagged, "secret") {
		t.Errorf("got %q", tagged)
	}
	if !strings.Contains(joined(got), "plain body") || strings.Contains(joined(got), "vnd.cloudmls") {
		t.Errorf("got %q", got)
	}
	w.backend.openErr = &imapd.Failure{Code: "LIMIT", Text: "Too many\r\nA1 OK forged"}
	if _, tagged := c.do("FETCH 2 BODY[]"); !strings.HasPrefix(tagged, "NO [LIMIT] Too many  A1 OK forged\r\n") {
		t.Errorf("got %q", tagged)
	}
	d := w.direct()
	d.ok("SELECT INBOX")
	if got := strings.ToLower(flagsOf(d, 2)); strings.Contains(got, `\seen`) {
		t.Error("\\Seen was set although the message was not shown")
	}
	w.backend.openErr = nil
	if got := c.fetchLiteral("FETCH 2 BODY[]"); got != statusField+innerMail {
		t.Errorf("got %q", got)
	}
}

// TestOversizeParts: a message whose outer header or control part is longer than
// one of ours can be is explained, and so is the connection's other mail served.
func TestOversizeParts(t *testing.T) {
	sealed := string(seal([]byte(innerMail), sealOptions{}))
	head, body, _ := strings.Cut(sealed, "\r\nContent-Type: multipart/encrypted")
	body = "\r\nContent-Type: multipart/encrypted" + body
	fields := strings.Repeat("X-Long: "+strings.Repeat("x", 900)+"\r\n", 50)
	huge := string(seal([]byte("Subject: huge\r\n\r\n"+strings.Repeat("text ", 20_000)), sealOptions{}))
	w := newWorld(t, func(_ *backend, o *imapd.Options) { o.Limits.ResponseBytes = 100_000 })
	w.deliver("INBOX", []byte(head+"\r\n"+strings.TrimSuffix(fields, "\r\n")+body))
	w.deliver("INBOX", []byte(huge))
	w.deliver("INBOX", []byte(sealed))
	w.deliver("INBOX", []byte(plainMail))
	for range 2 { // and they stay what they were shown as
		c := w.login()
		c.ok("SELECT INBOX")
		for n := 1; n <= 2; n++ {
			if got := c.fetchLiteral(fmt.Sprintf("FETCH %d BODY.PEEK[]", n)); !strings.Contains(got, "cannot be opened: damaged") {
				t.Errorf("message %d: %.200q", n, got)
			}
		}
		if got := c.fetchLiteral("FETCH 3 BODY.PEEK[]"); got != statusField+innerMail {
			t.Errorf("the message of ordinary size: %.200q", got)
		}
		if got := c.fetchLiteral("FETCH 4 BODY.PEEK[]"); got != plainMail {
			t.Errorf("the plain message: %.200q", got)
		}
		c.ok("NOOP")
	}
}
