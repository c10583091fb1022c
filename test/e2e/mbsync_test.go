package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/corpus"
	"github.com/cloudmls/gateway/test/stack"
)

// sameUIDs: what the gateway shows as UIDVALIDITY, UIDs and UIDNEXT is the
// provider's own.
func sameUIDs(t *testing.T, through, direct *stack.IMAP, mailboxes ...string) {
	t.Helper()
	for _, box := range mailboxes {
		status := "STATUS " + box + " (MESSAGES UIDNEXT UIDVALIDITY)"
		if got, want := through.OK(status), direct.OK(status); !bytes.Equal(got[0], want[0]) {
			t.Errorf("%s: %q through the gateway, %q without", box, got, want)
		}
		through.OK("EXAMINE " + box)
		direct.OK("EXAMINE " + box)
		if got, want := through.Search("ALL"), direct.Search("ALL"); !slices.Equal(got, want) {
			t.Errorf("%s: UIDs %v through the gateway, %v without", box, got, want)
		}
	}
}

// TestMbsync keeps a Maildir in step with a mailbox of which half is encrypted:
// the first run, runs with nothing to do, changes on both sides, an uploaded
// draft, and a gateway that was restarted in between.
func TestMbsync(t *testing.T) {
	s := stack.New(t, lab)
	a := s.AddUser("alice", stack.Alice)
	g := s.AddUser("grace", stack.Grace)
	direct := lab.Direct(t, stack.Grace)
	direct.Do("CREATE Moved")
	for _, box := range []string{"INBOX", "Drafts", "Moved"} {
		lab.Empty(t, stack.Grace, box)
	}
	all, err := corpus.All()
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(m corpus.Message) bool { return len(m.Octets) > 2<<20 || m.Name == "bcc-field" })[:60]
	out := a.Submission(stack.Alice)
	for i, m := range all {
		if i%2 == 0 {
			direct.Append("INBOX", "", m.Octets)
			continue
		}
		if err := out.Send([]string{stack.Grace}, m.Octets); err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
	}
	c := g.Mail(stack.Grace)
	arrived(t, c, len(all))
	sealed, plain := kinds(t, c)
	if len(sealed) != len(all)/2 || len(plain) != len(all)/2 {
		t.Fatalf("%d sealed and %d plain messages of %d", len(sealed), len(plain), len(all))
	}

	m := newMaildir(t, g, stack.Grace)
	m.sync(t)
	m.agrees(t, c, "INBOX")
	sameUIDs(t, c, direct, "INBOX", "Drafts", "Moved")
	first := m.state(t)
	m.sync(t)
	if again := m.state(t); again != first {
		t.Errorf("a second run changed something:\n%s\nbefore:\n%s", again, first)
	}

	// Changes: new mail, flags from either side, removals from either side, moves.
	files := m.mailbox(t, "INBOX")
	for i, uids := range [][]int{sealed, plain} {
		c.OK("SELECT INBOX")
		c.OK(fmt.Sprintf(`UID STORE %d +FLAGS (\Flagged \Answered)`, uids[0]))
		c.OK(fmt.Sprintf("UID MOVE %d Moved", uids[3]))
		c.OK(fmt.Sprintf(`UID STORE %d +FLAGS (\Deleted)`, uids[4]))
		c.OK(fmt.Sprintf("UID EXPUNGE %d", uids[4]))
		seen := files[uids[1]]
		if err := os.Rename(seen.path, filepath.Join(m.dir, "INBOX", "cur", strings.TrimSuffix(seen.name, ":2,")+":2,S")); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(files[uids[2]].path); err != nil {
			t.Fatal(err)
		}
		text := fmt.Appendf(nil, "From: %s\r\nTo: %s\r\nMessage-ID: <later%d@a.test>\r\nSubject: later\r\n\r\nnew %d\r\n", stack.Alice, stack.Grace, i, i)
		if i == 0 {
			if err := out.Send([]string{stack.Grace}, text); err != nil {
				t.Fatal(err)
			}
		} else {
			direct.Append("INBOX", "", text)
		}
	}
	arrived(t, c, len(all)-2*2+2)
	m.sync(t)
	files = m.agrees(t, c, "INBOX")
	for _, uids := range [][]int{sealed, plain} {
		if f := files[uids[0]].flags; !strings.Contains(f, "F") || !strings.Contains(f, "R") {
			t.Errorf("UID %d has the flags %q in the copy", uids[0], f)
		}
		if f := c.Fetch(uids[1], "FLAGS").String(); !strings.Contains(f, `\\Seen`) {
			t.Errorf("UID %d has the flags %s at the provider", uids[1], f)
		}
		for _, gone := range uids[2:5] {
			if slices.Contains(c.Search("ALL"), gone) || files[gone].path != "" {
				t.Errorf("UID %d is still there", gone)
			}
		}
	}
	if n := len(m.agrees(t, c, "Moved")); n != 2 {
		t.Errorf("%d messages were moved, want 2", n)
	}

	m.pushDraft(t, g, c, direct)
	sameUIDs(t, c, direct, "INBOX", "Drafts", "Moved")

	// The same after restarts: nothing is pulled again.
	m.sync(t)
	before := m.state(t)
	g.Stop()
	g.Start(stack.GatewayReady)
	m.sync(t)
	g.Kill()
	g.Start(stack.GatewayReady)
	m.sync(t)
	if after := m.state(t); after != before {
		t.Errorf("the restarted gateway made mbsync change something:\n%s\nbefore:\n%s", after, before)
	}

	// A full pull into a second copy gives the same mail.
	second := newMaildir(t, g, stack.Grace)
	second.sync(t)
	for _, box := range []string{"INBOX", "Drafts", "Moved"} {
		one, two := m.mailbox(t, box), second.agrees(t, g.Mail(stack.Grace), box)
		for uid, e := range one {
			pulled := asFile(two[uid].octets)
			if box == "Drafts" { // the first copy holds it as it was written
				pulled = bytes.ReplaceAll(stack.WithoutPrefix(t, bytes.ReplaceAll(pulled, []byte("\n"), []byte("\r\n"))), []byte("\r\n"), []byte("\n"))
			}
			if !bytes.Equal(asFile(e.octets), pulled) {
				t.Errorf("%s: UID %d differs between two copies", box, uid)
			}
		}
	}
}

// pushDraft puts a draft into the copy and has mbsync upload it: the provider
// gets ciphertext, under the UID that mbsync then writes into the file's name.
func (m *maildir) pushDraft(t *testing.T, g *stack.Gateway, c, direct *stack.IMAP) {
	t.Helper()
	const canary = "CANARY-mbsync-draft"
	draft := []byte("Date: Mon, 23 Nov 2026 10:00:00 +0100\nFrom: " + stack.Grace + "\nSubject: " + canary + "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße, " + canary + "\n")
	if err := os.WriteFile(filepath.Join(m.dir, "Drafts", "cur", "1700000000.1_1.test:2,DS"), draft, 0o600); err != nil {
		t.Fatal(err)
	}
	m.sync(t)
	files := m.mailbox(t, "Drafts")
	c.OK("SELECT Drafts")
	if len(files) != 1 || !slices.Equal(c.Search("ALL"), slices.Collect(maps.Keys(files))) {
		t.Fatalf("Drafts holds %d files", len(files))
	}
	for uid, f := range files {
		if uid == 0 || !bytes.Equal(asFile(f.octets), draft) {
			t.Errorf("the draft lies under UID %d as %q", uid, f.octets)
		}
		if got := asFile(stack.WithoutPrefix(t, c.Fetch(uid, "BODY.PEEK[]").Str)); !bytes.Equal(got, draft) {
			t.Errorf("pulled back: %q", got)
		}
		if flags := c.Fetch(uid, "FLAGS").String(); !strings.Contains(flags, `\\Draft`) || !strings.Contains(flags, `\\Seen`) {
			t.Errorf("the draft has the flags %s", flags)
		}
		direct.OK("SELECT Drafts")
		stored := direct.Fetch(uid, "BODY.PEEK[]").Str
		if !bytes.Contains(stored, []byte("application/vnd.cloudmls.control")) || bytes.Contains(stored, []byte(canary)) {
			t.Errorf("the provider has the draft as %q", stored)
		}
	}
	for c, where := range stack.FindCanaries(t, []string{canary}, append(lab.Folders(), g.Dir)...) {
		t.Errorf("%s lies readable in %v", c, where)
	}
}

// kinds tells the sealed messages of the selected mailbox from the plain ones.
func kinds(t *testing.T, c *stack.IMAP) (sealed, plain []int) {
	t.Helper()
	for _, uid := range c.Search("ALL") {
		if strings.Contains(c.Fetch(uid, "FLAGS").String(), "$MLSEncrypted") {
			sealed = append(sealed, uid)
		} else {
			plain = append(plain, uid)
		}
	}
	return sealed, plain
}
