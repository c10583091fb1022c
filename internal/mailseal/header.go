package mailseal

import (
	"errors"
	"fmt"
	"io"
	stdmime "mime"
	"slices"
	"strings"

	"github.com/emersion/go-message/charset"

	"github.com/cloudmls/gateway/internal/mime"
)

// ErrHeader is wrapped by the errors of ParseHeader.
var ErrHeader = errors.New("malformed header field")

// Limits of one header.
const (
	maxMailboxes  = 4096
	maxReferences = 1000
)

// Mailbox is one address of a header field.
type Mailbox struct {
	// Name is the display name, decoded (RFC 2047), "" if there is none.
	Name string
	// Address is the addr-spec, case untouched, quoted only where it has to
	// be.
	Address string
}

// Header is what the gateway has to know of the header of a message.
type Header struct {
	// The addresses of all fields of a name together, groups resolved.
	From, Sender, ReplyTo, To, Cc, Bcc []Mailbox
	// Date without comments; "" if missing.
	Date string
	// Subject, decoded (RFC 2047); "" if missing.
	Subject string
	// MessageID with its angle brackets; "" if missing or malformed.
	MessageID string
	// InReplyTo and References are message ids with their angle brackets;
	// what else is in these fields is left out.
	InReplyTo, References []string
	// Forwarded are the ids of X-Forwarded-Message-Id, in the same form: the
	// messages that a mail program forwards in this one.
	Forwarded []string
	// ListFields says that the message has List-* fields (RFC 2369, RFC 2919).
	ListFields bool
	// AutoSubmitted is the keyword of the field (RFC 3834), in lower case; ""
	// if missing. "no" means not.
	AutoSubmitted string
	// Resent says that the message has Resent-* fields: it was sent again by
	// somebody else, to others than To, Cc and Bcc say.
	Resent bool
	// Duplicates names the fields that are there more than once and must not
	// be (RFC 5322 section 3.6), canonically spelt and sorted.
	Duplicates []string
}

// onceOnly lists the fields of RFC 5322 section 3.6 that a message has at most
// once.
var onceOnly = []string{
	"Bcc", "Cc", "Date", "From", "In-Reply-To", "Message-ID", "References", "Reply-To", "Sender", "Subject", "To",
}

// ParseHeader reads a complete header, with or without its blank line. It fails
// if an address field is not a list of addresses throughout, however little is
// wrong: whom a message goes to is not to be guessed. The error wraps ErrHeader
// and names the field, not its content.
func ParseHeader(header []byte) (*Header, error) {
	h := &Header{}
	count := map[string]int{}
	for f := range mime.Fields(header) {
		name := strings.ToLower(string(f.Name))
		count[name]++
		if err := h.add(name, f); err != nil {
			return nil, err
		}
		h.ListFields = h.ListFields || strings.HasPrefix(name, "list-")
		h.Resent = h.Resent || strings.HasPrefix(name, "resent-")
	}
	for _, name := range onceOnly {
		if count[strings.ToLower(name)] > 1 {
			h.Duplicates = append(h.Duplicates, name)
		}
	}
	return h, nil
}

func (h *Header) add(name string, f mime.Field) error {
	switch name {
	case "from":
		return addMailboxes(&h.From, "From", f)
	case "sender":
		return addMailboxes(&h.Sender, "Sender", f)
	case "reply-to":
		return addMailboxes(&h.ReplyTo, "Reply-To", f)
	case "to":
		return addMailboxes(&h.To, "To", f)
	case "cc":
		return addMailboxes(&h.Cc, "Cc", f)
	case "bcc":
		return addMailboxes(&h.Bcc, "Bcc", f)
	case "date":
		h.Date = withoutComments(f.Unfolded())
	case "subject":
		h.Subject = decodeWords(string(f.Unfolded()))
	case "message-id":
		if ids := messageIDs(f.Unfolded()); len(ids) == 1 {
			h.MessageID = ids[0]
		}
	case "in-reply-to":
		h.InReplyTo = appendIDs(h.InReplyTo, f)
	case "references":
		h.References = appendIDs(h.References, f)
	case "x-forwarded-message-id":
		h.Forwarded = appendIDs(h.Forwarded, f)
	case "auto-submitted":
		keyword, _, _ := strings.Cut(withoutComments(f.Unfolded()), ";")
		h.AutoSubmitted = strings.ToLower(strings.TrimSpace(keyword))
	}
	return nil
}

func addMailboxes(list *[]Mailbox, name string, f mime.Field) error {
	addrs, err := mime.ParseMailboxes(f.Value)
	if err != nil {
		return fmt.Errorf("%w: %s", ErrHeader, name)
	}
	if len(*list)+len(addrs) > maxMailboxes {
		return fmt.Errorf("%w: %s has too many addresses", ErrHeader, name)
	}
	for _, a := range addrs {
		spec := a.Spec()
		if !isPrintable(strings.ReplaceAll(spec, " ", "")) {
			return fmt.Errorf("%w: %s", ErrHeader, name)
		}
		*list = append(*list, Mailbox{Name: decodeWords(string(a.Name)), Address: spec})
	}
	return nil
}

// words decodes RFC 2047 in the charsets that mail has.
var words = stdmime.WordDecoder{CharsetReader: charset.Reader}

// decodeWords decodes encoded words for people to read. What cannot be decoded
// stays as it is.
func decodeWords(s string) string {
	if decoded, err := words.DecodeHeader(s); err == nil {
		s = decoded
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// withoutComments removes comments (RFC 5322 section 3.2.2) and tidies white
// space.
func withoutComments(value []byte) string {
	var b strings.Builder
	level := 0
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case c == '\\' && level > 0:
			i++
		case c == '(':
			level++
			b.WriteByte(' ')
		case c == ')' && level > 0:
			level--
		case level == 0:
			b.WriteByte(c)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// messageIDs returns the well-formed message ids of a field.
func messageIDs(value []byte) []string {
	var ids []string
	for rest := withoutComments(value); ; {
		_, after, ok := strings.Cut(rest, "<")
		if !ok {
			return ids
		}
		id, tail, ok := strings.Cut(after, ">")
		if !ok {
			return ids
		}
		if id = "<" + id + ">"; isMessageID(id) {
			ids = append(ids, id)
		}
		rest = tail
	}
}

// appendIDs appends the ids of a field; of very many the oldest go, as RFC
// 5322 section 3.6.4 has it for threads: the first and the last matter.
func appendIDs(ids []string, f mime.Field) []string {
	ids = append(ids, messageIDs(f.Unfolded())...)
	if extra := len(ids) - maxReferences; extra > 0 {
		ids = slices.Delete(ids, 1, 1+extra)
	}
	return ids
}

// ReadHeader returns the header of a message of size octets, blank line
// included. It fails with a *mime.LimitError beyond the default limit of
// octets.
func ReadHeader(inner io.ReaderAt, size int64) ([]byte, error) {
	limit := mime.DefaultLimits.HeaderBytes
	var b []byte
	for {
		n := int(min(int64(max(4096, 2*len(b))), size))
		if n > limit {
			n = int(min(int64(limit)+1, size))
		}
		b = make([]byte, n)
		if _, err := io.ReadFull(io.NewSectionReader(inner, 0, int64(n)), b); err != nil && n > 0 {
			return nil, fmt.Errorf("read message header: %w", err)
		}
		if end := headerEnd(b); end >= 0 && end <= limit {
			return b[:end:end], nil
		}
		if int64(n) == size && n <= limit {
			return b, nil
		}
		if n > limit {
			return nil, &mime.LimitError{What: "header octets", Max: limit}
		}
	}
}

// headerEnd returns the offset behind the blank line of b, -1 if it has none.
func headerEnd(b []byte) int {
	for i := 0; i < len(b); {
		if b[i] == '\n' {
			return i + 1
		}
		if b[i] == '\r' && i+1 < len(b) && b[i+1] == '\n' {
			return i + 2
		}
		for i < len(b) && b[i] != '\n' {
			i++
		}
		i++
	}
	return -1
}

// Outer returns what of the header is shown outside, with everything taken off
// that is not: the first From address, the To and Cc addresses, date and
// message ids. The subject token is left to the caller.
func (h *Header) Outer() Outer {
	o := Outer{
		Date:       h.Date,
		MessageID:  h.MessageID,
		InReplyTo:  strings.Join(h.InReplyTo, " "),
		References: strings.Join(h.References, " "),
		To:         Addresses(h.To),
		Cc:         Addresses(h.Cc),
	}
	if len(h.From) > 0 {
		o.From = h.From[0].Address
	}
	return o
}

// Addresses returns the addr-specs of mailboxes, in order.
func Addresses(list []Mailbox) []string {
	var out []string
	for _, m := range list {
		out = append(out, m.Address)
	}
	return out
}
