package thunderbird

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// stored is what the provider holds of a message: it must be there exactly once.
func stored(t *testing.T, address, mailbox, messageID string) (uid int, raw []byte, flags string) {
	t.Helper()
	d := lab.Direct(t, address)
	d.OK(fmt.Sprintf("SELECT %q", mailbox))
	uids := d.Search(fmt.Sprintf(`HEADER Message-ID "<%s>"`, bare(messageID)))
	if len(uids) != 1 {
		t.Fatalf("%s lies %d times in %s's %s at the provider, want once", messageID, len(uids), address, mailbox)
	}
	return uids[0], bytes.Clone(d.Fetch(uids[0], "BODY.PEEK[]").Str), d.Fetch(uids[0], "FLAGS").String()
}

// sealed checks that the provider's copy is an encrypted message that shows no
// secret and none of the words, in any encoding.
func sealed(t *testing.T, address, mailbox, messageID string, hidden ...string) []byte {
	t.Helper()
	_, raw, _ := stored(t, address, mailbox, messageID)
	header, _, _ := strings.Cut(string(raw), "\r\n\r\n")
	if !strings.Contains(header, "multipart/encrypted") || !strings.Contains(header, "application/vnd.cloudmls.control") {
		t.Errorf("%s lies unsealed in %s's %s at the provider:\n%s", messageID, address, mailbox, header)
	}
	dir := t.TempDir()
	if err := writeFile(dir, raw); err != nil {
		t.Fatal(err)
	}
	for word := range stack.FindCanaries(t, append(hidden, canary), dir) {
		t.Errorf("%s in %s's %s at the provider shows %q", messageID, address, mailbox, word)
	}
	return raw
}

func writeFile(dir string, b []byte) error {
	return os.WriteFile(filepath.Join(dir, "message.eml"), b, 0o600)
}

// empty deletes all mail of an address at its provider.
func empty(t *testing.T, address string) {
	t.Helper()
	d := lab.Direct(t, address)
	for _, l := range d.OK(`LIST "" "*"`) {
		fields := strings.SplitN(strings.TrimSpace(string(l)), ` "/" `, 2)
		if len(fields) < 2 {
			continue
		}
		d.OK("SELECT " + fields[1])
		if len(d.Search("ALL")) > 0 {
			d.OK(`STORE 1:* +FLAGS.SILENT (\Deleted)`)
			d.OK("EXPUNGE")
		}
	}
}
