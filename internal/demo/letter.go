package demo

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
	"time"
)

// letter is a message of the story, as a mail program composes it.
type letter struct {
	from, subject, text string
	to, cc, bcc         []string
	answers             *letter // In-Reply-To and References
	attachment          []byte
	name                string // of the attachment

	id     string // Message-ID with angle brackets
	octets []byte // as submitted, without a Bcc field
}

// compose fills id and octets.
func (l *letter) compose() *letter {
	l.id = "<" + strings.ToLower(rand.Text()) + "@" + l.from[strings.IndexByte(l.from, '@')+1:] + ">"
	var b strings.Builder
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	field("Date", time.Now().Format(time.RFC1123Z))
	field("From", l.from)
	field("To", strings.Join(l.to, ", "))
	field("Cc", strings.Join(l.cc, ", "))
	field("Message-ID", l.id)
	if l.answers != nil {
		field("In-Reply-To", l.answers.id)
		field("References", l.answers.id)
	}
	field("Subject", l.subject)
	field("User-Agent", "Storyteller 1.0")
	field("MIME-Version", "1.0")
	if l.attachment == nil {
		field("Content-Type", "text/plain; charset=utf-8")
		field("Content-Transfer-Encoding", "8bit")
		b.WriteString("\r\n" + l.text + "\r\n")
	} else {
		l.multipart(&b)
	}
	l.octets = []byte(b.String())
	return l
}

func (l *letter) multipart(b *strings.Builder) {
	boundary := "=_" + rand.Text()
	fmt.Fprintf(b, "Content-Type: multipart/mixed; boundary=%q\r\n\r\n", boundary)
	fmt.Fprintf(b, "--%s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n", boundary, l.text)
	fmt.Fprintf(b, "--%s\r\nContent-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=%q\r\nContent-Transfer-Encoding: base64\r\n\r\n", boundary, l.name)
	s := base64.StdEncoding.EncodeToString(l.attachment)
	for len(s) > 76 {
		b.WriteString(s[:76] + "\r\n")
		s = s[76:]
	}
	fmt.Fprintf(b, "%s\r\n--%s--\r\n", s, boundary)
}

// withBcc is the letter as its sender keeps it.
func (l *letter) withBcc() []byte {
	return append([]byte("Bcc: "+strings.Join(l.bcc, ", ")+"\r\n"), l.octets...)
}

// envelope is everybody the letter goes to.
func (l *letter) envelope() []string {
	return append(append(append([]string{}, l.to...), l.cc...), l.bcc...)
}
