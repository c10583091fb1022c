package mailseal

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/mail"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cloudmls/gateway/internal/mime"
)

// Outer is what a sealed message shows outside, to everybody on the way. There
// is no field for anything else.
type Outer struct {
	// From, To and Cc are bare addr-specs, without display names.
	From   string
	To, Cc []string
	// Date is an RFC 5322 date without comments.
	Date string
	// MessageID is one message id with its angle brackets; InReplyTo and
	// References are any number of them, with space between. All may be empty.
	MessageID, InReplyTo, References string
	// SubjectToken is the token of the thread: 8 lower-case letters and
	// digits. The subject is "[...] " and the token.
	SubjectToken string
}

const (
	tokenLength   = 8
	maxAddressLen = 320
	maxMessageID  = 900 // fits a line of 998 octets
	maxLine       = 78
)

// appendHeader appends the whole outer header but the blank line.
func (o *Outer) appendHeader(b []byte, conversation [16]byte, boundary string) ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	b = appendList(b, "From", []string{o.From})
	b = appendList(b, "To", o.To)
	b = appendList(b, "Cc", o.Cc)
	b = appendField(b, "Date", o.Date)
	b = appendWords(b, "Message-ID", strings.Fields(o.MessageID))
	b = appendWords(b, "In-Reply-To", strings.Fields(o.InReplyTo))
	b = appendWords(b, "References", strings.Fields(o.References))
	b = appendField(b, "Subject", "[...] "+o.SubjectToken)
	if conversation != [16]byte{} {
		b = appendField(b, ConversationField, hex.EncodeToString(conversation[:]))
	}
	b = appendField(b, "MIME-Version", "1.0")
	return appendField(b, "Content-Type", "multipart/encrypted;\r\n protocol=\""+ControlType+
		"\";\r\n boundary=\""+boundary+"\""), nil
}

func (o *Outer) check() error {
	for _, list := range [][]string{{o.From}, o.To, o.Cc} {
		for _, addr := range list {
			if !isAddrSpec(addr) {
				return fmt.Errorf("%w: address", ErrOuter)
			}
		}
	}
	if o.Date != "" && !isPlainDate(o.Date) {
		return fmt.Errorf("%w: date", ErrOuter)
	}
	for _, ids := range []string{o.MessageID, o.InReplyTo, o.References} {
		for _, id := range strings.Fields(ids) {
			if !isMessageID(id) {
				return fmt.Errorf("%w: message id", ErrOuter)
			}
		}
	}
	if len(strings.Fields(o.MessageID)) > 1 {
		return fmt.Errorf("%w: several message ids", ErrOuter)
	}
	if !isToken(o.SubjectToken) {
		return fmt.Errorf("%w: subject token", ErrOuter)
	}
	return nil
}

// ascii reports whether the header needs no SMTPUTF8 (RFC 6531).
func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// isAddrSpec reports whether s is one addr-spec (RFC 5322 section 3.4.1) in
// the only spelling that FormatAddress gives it.
func isAddrSpec(s string) bool {
	if len(s) > maxAddressLen || !isPrintable(s) {
		return false
	}
	addrs, err := mime.ParseMailboxes([]byte(s))
	return err == nil && len(addrs) == 1 && addrs[0].Name == nil && addrs[0].Route == nil &&
		addrs[0].Spec() == s
}

// isPlainDate reports whether s is a date with nothing hidden in it. Whether
// it is the right one does not matter.
func isPlainDate(s string) bool {
	for _, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		digit := '0' <= c && c <= '9'
		if !letter && !digit && !strings.ContainsRune(" ,:+-", rune(c)) {
			return false
		}
	}
	_, err := mail.ParseDate(s)
	return err == nil && len(s) <= 64
}

// isMessageID reports whether s is a message id with its angle brackets,
// loosely: no space, no brackets inside.
func isMessageID(s string) bool {
	return len(s) > 2 && len(s) <= maxMessageID && s[0] == '<' && s[len(s)-1] == '>' &&
		!strings.ContainsAny(s[1:len(s)-1], `<>()",;\`) && isPrintable(s)
}

func isToken(s string) bool {
	if len(s) != tokenLength {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// isPrintable reports whether s is UTF-8 without space and control characters.
func isPrintable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r != '"' && (unicode.IsSpace(r) || unicode.IsControl(r)) {
			return false
		}
	}
	return true
}

func appendField(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return append(b, name+": "+value+"\r\n"...)
}

// appendWords appends a field of words, folded at 78 columns where it can be.
func appendWords(b []byte, name string, words []string) []byte {
	if len(words) == 0 {
		return b
	}
	b = append(b, name+":"...)
	col := len(name) + 1
	for i, w := range words {
		if i > 0 && col+1+len(w) > maxLine {
			b = append(b, "\r\n"...)
			col = 0
		}
		b = append(b, " "+w...)
		col += 1 + len(w)
	}
	return append(b, "\r\n"...)
}

func appendList(b []byte, name string, addrs []string) []byte {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a
		if i < len(addrs)-1 {
			words[i] += ","
		}
	}
	return appendWords(b, name, words)
}

// Conversation returns the conversation id that an outer header names. It is a
// hint: the one in the control record counts.
func Conversation(outerHeader []byte) (id [16]byte, ok bool) {
	for f := range mime.Fields(outerHeader) {
		if f.Is(ConversationField) {
			n, err := hex.Decode(id[:], limit(bytes.TrimSpace(f.Unfolded()), 2*len(id)))
			return id, err == nil && n == len(id)
		}
	}
	return id, false
}

// limit returns nil for what is longer than n.
func limit(b []byte, n int) []byte {
	if len(b) > n {
		return nil
	}
	return b
}
