package differential

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// message returns plain mail number n of one of four kinds.
func message(n, kind int) string {
	head := fmt.Sprintf("From: \"Person %d\" <p%d@example.org>\r\nTo: alice@a.test, group: b@b.test, c@c.test;\r\n"+
		"Date: %d Mar 2026 10:%02d:00 +0100\r\nMessage-ID: <m%d@example.org>\r\nSubject: number %d\r\n", n, n%5, 1+n%28, n%60, n, n)
	if n > 2 {
		head += fmt.Sprintf("In-Reply-To: <m%d@example.org>\r\nReferences: <m0@example.org>\r\n <m%d@example.org>\r\n", n/2, n/2)
	}
	switch kind {
	case 1:
		return head + "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b b\"\r\n\r\npreamble\r\n--b b\r\n" +
			"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<p>gr=C3=BC=C3=9F</p>\r\n--b b\r\n" +
			"Content-Type: application/octet-stream; name*=utf-8''%c3%bc.bin\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment\r\n\r\n" +
			strings.Repeat("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo=\r\n", 20*n) + "--b b\r\nContent-Type: message/rfc822\r\n\r\n" +
			"Subject: inside\r\n\r\ninner body\r\n--b b--\r\nepilogue\r\n"
	case 2:
		return head + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngr\xc3\xbc\xc3\x9f {12}\r\n* 1 FETCH (FLAGS ($MLSVerified))\r\n"
	case 3:
		return "Subject: =?utf-8?q?gr=C3=BC=C3=9F?=\r\n {5}\r\nX-Odd:\r\n\r\n"
	}
	return head + "\r\nbody " + strings.Repeat(fmt.Sprintf("text of %d\r\n", n), n)
}

// prepare makes the mailboxes that every sequence starts from, in the mailbox
// of one user, and keeps a copy of the user's files.
func prepare(t testing.TB, c *conn) {
	t.Helper()
	// Without this the provider may hand out UIDVALIDITYs by the clock.
	for _, box := range []string{"Work", "Work/Deep", "Entw&APw-rfe", "Big", "Empty", `"odd \"name\" \\ here"`} {
		c.ok(t, "CREATE "+box)
		c.ok(t, "SUBSCRIBE "+box)
	}
	put := func(box string, n, kind int, flags string) {
		msg := message(n, kind)
		c.ok(t, fmt.Sprintf("APPEND %s (%s) \"%02d-Mar-2026 05:06:07 +0000\" {%d+}\r\n%s", box, flags, 1+n%28, len(msg), msg))
	}
	flags := []string{`\Seen`, "", `\Flagged kw1`, `\Answered \Seen`, `$Forwarded`, `\Deleted`}
	for n := range 14 {
		put("INBOX", n, n%4, flags[n%len(flags)])
		put("Work", n, (n+1)%4, flags[(n+3)%len(flags)])
	}
	for n := range 4 {
		put("Entw&APw-rfe", n, n, `\Draft`)
		put("Work/Deep", n, 0, "")
	}
	put("Big", 900, 1, "")
	put("Sent", 1, 1, `\Seen`)
	for _, box := range []string{"INBOX", "Work"} {
		c.ok(t, "SELECT "+box)
		c.ok(t, `STORE 2,5,9 +FLAGS.SILENT (\Deleted)`)
		c.ok(t, "UID EXPUNGE 2,5,9") // gaps between UIDs
		c.ok(t, `STORE 3:4 +FLAGS.SILENT (NonJunk)`)
		c.ok(t, `STORE 7 -FLAGS.SILENT (\Seen)`)
		c.ok(t, "UNSELECT")
	}
}

// copyTree copies a folder with its owners. The target must not be there.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		if d.IsDir() {
			err = os.Mkdir(target, info.Mode().Perm())
		} else {
			err = copyFile(path, target, info)
		}
		if err != nil {
			return err
		}
		owner := info.Sys().(*syscall.Stat_t)
		return os.Chown(target, int(owner.Uid), int(owner.Gid))
	})
}

func copyFile(from, to string, info fs.FileInfo) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, b, info.Mode().Perm()); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}
