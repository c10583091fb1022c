package world

import (
	"bytes"
	"fmt"
	"strings"
)

// Letter is a message that a mail program writes. Empty fields are left out.
type Letter struct {
	From                  string // with a display name, or an address alone
	To, Cc, Bcc           []string
	Subject, MessageID    string // Message-ID with angle brackets
	Date                  string
	InReplyTo, References string
	Extra                 []string // further header fields, without line ends
	Body                  string   // LF or CRLF line ends
}

// Bytes gives the octets, with CRLF line ends.
func (l Letter) Bytes() []byte {
	var b bytes.Buffer
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\r\n", name, value)
		}
	}
	field("From", l.From)
	field("To", strings.Join(l.To, ", "))
	field("Cc", strings.Join(l.Cc, ", "))
	field("Bcc", strings.Join(l.Bcc, ", "))
	field("Subject", l.Subject)
	field("Date", l.Date)
	field("Message-ID", l.MessageID)
	field("In-Reply-To", l.InReplyTo)
	field("References", l.References)
	for _, x := range l.Extra {
		b.WriteString(x + "\r\n")
	}
	b.WriteString("\r\n")
	b.WriteString(strings.ReplaceAll(strings.ReplaceAll(l.Body, "\r\n", "\n"), "\n", "\r\n"))
	return b.Bytes()
}

// Recipients gives the bare addresses of To, Cc and Bcc: the envelope that a
// mail program makes.
func (l Letter) Recipients() []string {
	var out []string
	for _, list := range [][]string{l.To, l.Cc, l.Bcc} {
		for _, a := range list {
			out = append(out, BareAddress(a))
		}
	}
	return out
}

// BareAddress cuts the display name off.
func BareAddress(a string) string {
	if i, j := strings.LastIndexByte(a, '<'), strings.LastIndexByte(a, '>'); i >= 0 && j > i {
		return a[i+1 : j]
	}
	return a
}

// statusField is the last field before the message as it was submitted.
const statusField = "CloudMLS-Status"

// Inner cuts a served message after the gateway's status field: what remains
// are the octets that the sender submitted. A message without the field is
// returned as it is, and false.
func Inner(served []byte) ([]byte, bool) {
	header, _, _ := bytes.Cut(served, []byte("\r\n\r\n"))
	at := bytes.Index(append([]byte("\r\n"), header...), []byte("\r\n"+statusField+": "))
	if at < 0 {
		return served, false
	}
	rest := served[at:]
	for {
		_, after, ok := bytes.Cut(rest, []byte("\r\n"))
		if !ok {
			return served, false
		}
		rest = after
		if len(rest) == 0 || rest[0] != ' ' && rest[0] != '\t' {
			return rest, true
		}
	}
}

// Status gives the gateway's status field of a served message, or "".
func (m *Mail) Status() string { return Field(m.Content, statusField) }
