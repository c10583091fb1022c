package imapd_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/imapd"
)

// stored returns the last message of a mailbox as the provider has it.
func stored(w *world, box string) string {
	w.t.Helper()
	d := w.direct()
	d.ok("SELECT " + box)
	return d.fetchLiteral("FETCH * BODY.PEEK[]")
}

func messages(w *world, box string) int {
	w.t.Helper()
	n := 0
	for _, s := range w.direct().ok("STATUS " + box + " (MESSAGES)") {
		if i := strings.Index(s, "(MESSAGES "); i >= 0 {
			fmt.Sscanf(s[i:], "(MESSAGES %d)", &n)
		}
	}
	return n
}

func TestAppendIsSealed(t *testing.T) {
	w := newWorld(t, nil)
	c := w.login()
	msg := "Subject: draft\r\n\r\ncanary-in-a-draft\r\n"
	forms := []string{
		fmt.Sprintf("APPEND Drafts (\\Draft) {%d+}\r\n%s", len(msg), msg),
		fmt.Sprintf("append \"Drafts\" {%d+}\r\n%s", len(msg), msg),
		fmt.Sprintf("APPEND {6+}\r\nDrafts (\\Draft $MLSVerified \\Seen) \"04-Mar-2026 05:06:07 +0000\" {%d+}\r\n%s", len(msg), msg),
		fmt.Sprintf("APPEND Drafts \"04-Mar-2026 05:06:07 +0000\" ~{%d+}\r\n%s", len(msg), msg),
	}
	for i, f := range forms {
		_, tagged := c.do(f)
		if !strings.HasPrefix(tagged, "OK [APPENDUID ") || !strings.Contains(tagged, fmt.Sprintf(" %d]", i+1)) {
			t.Fatalf("%q: %s", f, tagged)
		}
	}
	// With a synchronising literal.
	c.send(fmt.Sprintf("S APPEND Drafts (\\Draft) {%d}\r\n", len(msg)))
	if p := c.line(); !strings.HasPrefix(p, "+") {
		t.Fatalf("got %q", p)
	}
	c.send(msg + "\r\n")
	if _, tagged := c.until("S"); !strings.HasPrefix(tagged, "OK [APPENDUID ") {
		t.Fatal(tagged)
	}
	if got := stored(w, "Drafts"); strings.Contains(got, "canary") || !strings.Contains(got, "vnd.cloudmls.control") {
		t.Errorf("stored %q", got)
	}
	u := w.backend.uploads[2]
	if u.Mailbox != "Drafts" || u.InternalDate != "04-Mar-2026 05:06:07 +0000" || fmt.Sprint(u.Flags) != `[\Draft \Seen]` || u.Size != int64(len(msg)) {
		t.Errorf("upload %+v", u)
	}
	c.ok("SELECT Drafts")
	if got := c.fetchLiteral("UID FETCH 3 (FLAGS INTERNALDATE BODY.PEEK[])"); got != statusField+msg {
		t.Errorf("got %q", got)
	}
	if got := fetchItem(c, 3, "INTERNALDATE"); got != `" 4-Mar-2026 05:06:07 +0000"` {
		t.Errorf("date %s", got)
	}
	if got := flagsOf(c, 5); !strings.Contains(got, `\draft`) {
		t.Errorf("flags %s", got)
	}
}

// TestThreat66_NothingIsStoredUnlessSealed: a sealing that fails stores
// nothing, in whatever form the client uploads.
func TestThreat66_NothingIsStoredUnlessSealed(t *testing.T) {
	w := newWorld(t, nil)
	c := w.login()
	const msg = "Subject: x\r\n\r\ncanary\r\n"
	w.backend.sealErr = &imapd.Failure{Code: "LIMIT", Text: "Your key is locked"}
	c.expect(fmt.Sprintf("APPEND Drafts {%d+}\r\n%s", len(msg), msg), "NO [LIMIT] Your key is locked")
	w.backend.sealErr = errors.New("secret cause")
	if _, tagged := c.do(fmt.Sprintf("APPEND Drafts {%d+}\r\n%s", len(msg), msg)); !strings.HasPrefix(tagged, "NO [UNAVAILABLE] ") || strings.Contains(tagged, "secret") {
		t.Error(tagged)
	}
	w.backend.sealErr = nil
	n := len(msg)
	lit := fmt.Sprintf("{%d+}\r\n%s", n, msg)
	for cmd, want := range map[string]string{
		"APPEND Drafts " + lit + " (\\Seen) " + lit:                 "NO [CANNOT]", // MULTIAPPEND
		"APPEND Drafts CATENATE (TEXT " + lit + ")":                 "NO [CANNOT]",
		"APPEND Drafts UTF8 (~" + lit + ")":                         "NO [CANNOT]",
		"APPEND Drafts (\\Seen \"a\") " + lit:                       "NO [CANNOT]",
		"REPLACE 1 Drafts " + lit:                                   "NO [CANNOT]",
		"UID REPLACE 1 Drafts " + lit:                               "NO [CANNOT]",
		"XUPLOAD Drafts " + lit + " more " + lit:                    "NO [CANNOT]",
		"UID XUPLOAD " + lit:                                        "NO [CANNOT]",
		"APPEND Drafts":                                             "BAD",
		"COMPRESS DEFLATE":                                          "NO [CANNOT]",
		"NOTIFY SET (selected (MessageNew (BODY.PEEK[])))":          "NO [CANNOT]",
		"URLFETCH \"imap://x\"":                                     "NO [CANNOT]",
		"SETANNOTATION Drafts \"/comment\" (\"value\" " + lit + ")": "NO [CANNOT]",
	} {
		c.expect(cmd, want)
	}
	// Synchronising literals of such commands are never asked for.
	for _, cmd := range []string{"XUPLOAD Drafts {10}", "REPLACE 1 Drafts {10}", "APPEND Drafts UTF8 (~{10}"} {
		if got := c.expect(cmd, "NO [CANNOT]"); len(got) > 0 {
			t.Errorf("%s: %q", cmd, got)
		}
	}
	c.ok("NOOP")
	if n := messages(w, "Drafts"); n != 0 {
		t.Errorf("%d messages were stored", n)
	}
	// Unknown commands without literal are the provider's business.
	if _, tagged := c.do("XNOSUCH a b"); !strings.HasPrefix(tagged, "BAD") {
		t.Error(tagged)
	}
}

func TestAppendProviderRefuses(t *testing.T) {
	w := newWorld(t, nil)
	c := w.login()
	msg := strings.Repeat("x", 200_000)
	c.expect(fmt.Sprintf("APPEND Nowhere {%d+}\r\n%s", len(msg), msg), "NO [TRYCREATE]")
	c.ok("NOOP")
	w = newWorld(t, func(_ *backend, o *imapd.Options) { o.Limits.UploadBytes = 1000 })
	c = w.login()
	c.expect("APPEND Sent {1001}", "NO [TOOBIG]")
	c.ok("NOOP")
	c.send("x APPEND Sent {1001+}\r\n")
	if rest := c.closed(); !strings.HasPrefix(rest, "* BYE") {
		t.Errorf("got %q", rest)
	}
}

// TestLargeAppendIsSpooledEncrypted: no file ever holds what the client
// uploads, and none is left.
func TestLargeAppendIsSpooledEncrypted(t *testing.T) {
	dir := t.TempDir()
	w := newWorld(t, func(_ *backend, o *imapd.Options) {
		o.SpoolDir = dir
		o.Limits.SpoolMemory = 10_000
	})
	c := w.login()
	for _, n := range []int{9_999, 10_001, 65_536, 300_000, 2_000_000} {
		msg := append([]byte("Subject: large\r\n\r\n"), bytes.Repeat([]byte("canary-line\r\n"), n/13)...)
		c.ok(fmt.Sprintf("APPEND Sent {%d+}\r\n%s", len(msg), msg))
		u := w.backend.uploads[len(w.backend.uploads)-1]
		got := make([]byte, u.Size)
		if _, err := u.Content.ReadAt(got, 0); err != nil || !bytes.Equal(got, msg) {
			t.Errorf("%d octets: content differs, %v", n, err)
		}
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// A folder that cannot be written is an error, and the session goes on.
	w = newWorld(t, func(_ *backend, o *imapd.Options) {
		o.SpoolDir = filepath.Join(dir, "missing")
		o.Limits.SpoolMemory = 10
	})
	c = w.login()
	c.expect("APPEND Sent {30+}\r\nSubject: x\r\n\r\n0123456789abcdef", "NO [UNAVAILABLE]")
	c.ok("NOOP")
	if _, err := os.Stat(filepath.Join(dir, "missing")); !os.IsNotExist(err) {
		t.Error(err)
	}
}

// TestThreat77_NoSecondCommand: line ends and NULs in arguments start no
// second command at the provider, nor do they come back as one.
func TestThreat77_NoSecondCommand(t *testing.T) {
	w := newWorld(t, nil)
	w.deliver("INBOX", []byte(plainMail))
	for _, cmd := range []string{
		"a SELECT INBOX\rb DELETE Work\r\n", "a SELECT INBOX\nb DELETE Work\r\n", "a NOOP\x00b DELETE Work\r\n",
		"a LIST \"\" \"x\ny DELETE Work\"\r\n", "a SEARCH SUBJECT {3+}\r\na\x00b\r\n", "a\rb DELETE Work\r\n",
		"a LIST \"\" {4+}\r\nx\r\ny\nb DELETE Work\r\n",
	} {
		c := w.login()
		c.send(cmd)
		c.send("end NOOP\r\n")
		got, tagged := c.until("end")
		if !strings.HasPrefix(tagged, "OK") || strings.Contains(joined(got), "b OK") {
			t.Errorf("%q: %q %q", cmd, got, tagged)
		}
		if !strings.Contains(joined(got), "BAD") {
			t.Errorf("%q was accepted: %q", cmd, got)
		}
	}
	if got := joined(w.direct().ok(`LIST "" "*"`)); !strings.Contains(got, "Work") {
		t.Fatalf("a second command was run: %s", got)
	}
	// Literals may hold line ends: they are not commands then.
	c := w.login()
	c.ok("SELECT INBOX")
	c.ok("SEARCH SUBJECT {21+}\r\na\r\nb DELETE Work\r\n\r\nz")
	if got := joined(w.direct().ok(`LIST "" "*"`)); !strings.Contains(got, "Work") {
		t.Fatalf("a second command was run: %s", got)
	}
	// Tags of the relay are its own.
	c.send("CMLSGW1 NOOP\r\ncmlsgw2 NOOP\r\nend NOOP\r\n")
	if got, _ := c.until("end"); !strings.HasPrefix(joined(got), "* BAD") {
		t.Errorf("reserved tag: %q", got)
	}
}
