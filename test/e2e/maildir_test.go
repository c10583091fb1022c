package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// maildir is a copy of Grace's mailboxes that mbsync keeps, through her gateway.
type maildir struct {
	dir    string
	config string
}

// newMaildir configures mbsync for an empty copy.
func newMaildir(t *testing.T, g *stack.Gateway, user string) *maildir {
	t.Helper()
	m := &maildir{dir: t.TempDir()}
	_, port, err := net.SplitHostPort(g.IMAP)
	if err != nil {
		t.Fatal(err)
	}
	m.config = filepath.Join(m.dir, "mbsyncrc")
	text := fmt.Sprintf(`IMAPAccount gateway
Host localhost
Port %s
User %s
Pass %s
SSLType IMAPS
SystemCertificates no
CertificateFile %s

IMAPStore far
Account gateway

MaildirStore near
Path %[5]s/
Inbox %[5]s/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX Drafts Moved
Create Near
Expunge Both
SyncState *
`, port, user, g.Password, g.CA, m.dir)
	if err := os.WriteFile(m.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

// sync runs mbsync once.
func (m *maildir) sync(t *testing.T) {
	t.Helper()
	out, err := exec.Command("mbsync", "-c", m.config, "all").CombinedOutput()
	if err != nil || strings.Contains(strings.ToLower(string(out)), "warning") {
		t.Fatalf("mbsync: %v\n%s", err, out)
	}
}

// entry is one file of the copy.
type entry struct {
	path, name string
	flags      string
	octets     []byte
}

// mailbox lists a mailbox of the copy by the UIDs of the provider. The UIDs in
// file names are mbsync's own; its state file pairs the two.
func (m *maildir) mailbox(t *testing.T, name string) map[int]entry {
	t.Helper()
	state, err := os.ReadFile(filepath.Join(m.dir, name, ".mbsyncstate"))
	if err != nil {
		t.Fatal(err)
	}
	far := map[int]int{}
	_, pairs, _ := strings.Cut(string(state), "\n\n")
	for line := range strings.Lines(pairs) {
		var there, here int
		if _, err := fmt.Sscan(line, &there, &here); err != nil {
			t.Fatalf("%s: state %q: %v", name, line, err)
		}
		far[here] = there
	}
	all := map[int]entry{}
	for _, sub := range []string{"new", "cur"} {
		files, err := filepath.Glob(filepath.Join(m.dir, name, sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			base, here := filepath.Base(f), 0
			if _, err := fmt.Sscanf(base[max(strings.Index(base, ",U="), 0):], ",U=%d", &here); err != nil || far[here] == 0 {
				t.Errorf("%s: %s belongs to no message", name, base)
				continue
			}
			octets, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			_, flags, _ := strings.Cut(base, ":2,")
			all[far[here]] = entry{path: f, name: base, flags: flags, octets: octets}
		}
	}
	return all
}

// state is everything of the copy: names, contents, flags, and what mbsync
// remembers of UIDs and UIDVALIDITYs.
func (m *maildir) state(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(m.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".lock") {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if filepath.Base(path) == ".mbsyncstate" || filepath.Base(path) == ".uidvalidity" {
			fmt.Fprintf(&b, "%s\n%s\n", path, content) // rewritten by every run
		} else {
			fmt.Fprintf(&b, "%s %s %d\n", path, info.ModTime(), len(content))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// agrees compares a mailbox of the copy with what the gateway serves: the same
// UIDs, and each message octet by octet, less what mbsync itself changes.
func (m *maildir) agrees(t *testing.T, c *stack.IMAP, name string) map[int]entry {
	t.Helper()
	files := m.mailbox(t, name)
	c.OK("SELECT " + name)
	uids := c.Search("ALL")
	for _, uid := range uids {
		f, ok := files[uid]
		if !ok {
			t.Errorf("%s: UID %d was not pulled", name, uid)
			continue
		}
		if want := asFile(c.Fetch(uid, "BODY.PEEK[]").Str); !bytes.Equal(asFile(f.octets), want) {
			t.Errorf("%s: UID %d differs (%d octets, want %d)", name, uid, len(f.octets), len(want))
		}
	}
	if len(files) != len(uids) {
		t.Errorf("%s: %d files, %d messages", name, len(files), len(uids))
	}
	return files
}

// asFile is a message with the line ends of a Maildir and without the field that
// mbsync gives a message while it travels.
func asFile(octets []byte) []byte {
	octets = bytes.ReplaceAll(octets, []byte("\r\n"), []byte("\n"))
	if i := bytes.Index(octets, []byte("\nX-TUID: ")); i >= 0 {
		end := bytes.IndexByte(octets[i+1:], '\n')
		octets = append(bytes.Clone(octets[:i]), octets[i+1+end:]...)
	}
	return octets
}
