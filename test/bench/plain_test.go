package bench

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// thunderbirdFields are what Thunderbird asks for to list a mailbox.
const thunderbirdFields = "(UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Cc Bcc Subject Date Message-ID Priority X-Priority References Newsgroups In-Reply-To Content-Type Reply-To Received)])"

// letter is an ordinary message of some 3 KiB.
func letter(i int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Return-Path: <list@example.org>\r\nReceived: from mail.example.org by mx.example.net; Mon, 23 Nov 2026 10:%02d:%02d +0000\r\n", i/60%60, i%60)
	fmt.Fprintf(&b, "From: Somebody %d <somebody%d@example.org>\r\nTo: bob@a.test\r\nSubject: Message number %d of many\r\nDate: Mon, 23 Nov 2026 10:%02d:%02d +0000\r\n", i%50, i%50, i, i/60%60, i%60)
	fmt.Fprintf(&b, "Message-ID: <bench-%d@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n", i)
	for j := range 40 {
		fmt.Fprintf(&b, "Line %d of message %d says what lines of messages say, at some length.\r\n", j, i)
	}
	return b.Bytes()
}

// attachment is a message with n octets of noise as its attachment.
func attachment(id, from, to string, n int) []byte {
	noise := make([]byte, n)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(noise) // cannot fail
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nSubject: large\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: %s\r\nMIME-Version: 1.0\r\n", from, to, id)
	b.WriteString("Content-Type: multipart/mixed; boundary=\"x\"\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nattached\r\n--x\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	text := base64.StdEncoding.EncodeToString(noise)
	for len(text) > 76 {
		b.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	b.WriteString(text + "\r\n--x--\r\n")
	return b.Bytes()
}

// BenchmarkPlain is what the gateway costs mail that is not ours.
func BenchmarkPlain(b *testing.B) {
	const many = 5000
	s := stack.New(b, lab)
	g := s.AddUser("bob", stack.Bob)
	fill(b, stack.Bob, "Many", many, letter)
	fill(b, stack.Bob, "Large", 1, func(int) []byte { return attachment("<large@example.org>", "a@example.org", stack.Bob, 15<<20) })
	ours, ref := through(b, g, stack.Bob), past(b, stack.Bob)

	both := func(command string) {
		ours.do(command)
		ref.do(command)
	}
	both("SELECT Many")
	list := "UID FETCH 1:* " + thunderbirdFields
	compare("fetch-headers", fmt.Sprintf("plain n=%d", many), 1.10, func() { ours.do(list) }, func() { ref.do(list) })
	small := func(i int) string { return fmt.Sprintf("FETCH %d (UID FLAGS RFC822.SIZE)", i%many+1) }
	compare("fetch-small", "plain n=1000 pipelined", 1.20, func() { ours.pipeline(1000, small) }, func() { ref.pipeline(1000, small) })
	both("SELECT Large")
	body := "UID FETCH 1 BODY.PEEK[]"
	compare("fetch-body", "plain size=20MB", 1.10, func() { ours.do(body) }, func() { ref.do(body) })
}

// BenchmarkMbsync pulls a mailbox with a synchronising client.
func BenchmarkMbsync(b *testing.B) {
	const many = 2000
	s := stack.New(b, lab)
	g := s.AddUser("carol", stack.Carol)
	fill(b, stack.Carol, "Pull", many, letter)
	p := lab.Of(b, stack.Carol)
	_, port, err := net.SplitHostPort(g.IMAP)
	if err != nil {
		b.Fatal(err)
	}
	n := 0
	pull := func(port, ca, password string) func() {
		return func() {
			n++
			dir := filepath.Join(b.TempDir(), fmt.Sprint(n))
			file := s.Write(fmt.Sprintf("mbsync-%d", n), fmt.Sprintf(`IMAPAccount x
Host localhost
Port %s
User %s
Pass %s
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account x

MaildirStore near
Path %s/
Inbox %s/INBOX

Channel c
Far :far:Pull
Near :near:Pull
Create Near
SyncState *
`, port, stack.Carol, password, ca, dir, dir))
			if out, err := exec.Command("sh", "-c", "mkdir -p "+dir+" && mbsync -q -c "+file+" c").CombinedOutput(); err != nil {
				b.Fatalf("mbsync: %v\n%s", err, out)
			}
			if got := len(strings.Fields(list(b, filepath.Join(dir, "Pull", "cur")) + list(b, filepath.Join(dir, "Pull", "new")))); got != many {
				b.Fatalf("mbsync pulled %d messages, want %d", got, many)
			}
		}
	}
	compare("mbsync-pull", fmt.Sprintf("plain n=%d", many), 1.10, pull(port, g.CA, g.Password), pull(fmt.Sprint(p.IMAP.TLSPort), lab.CA, stack.Password(stack.Carol)))
}

func list(b *testing.B, dir string) string {
	out, err := exec.Command("ls", dir).Output()
	if err != nil {
		b.Fatal(err)
	}
	return string(out) + "\n"
}
