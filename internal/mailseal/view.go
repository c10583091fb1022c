package mailseal

import (
	"bytes"
	"errors"
	"io"
	"mime/quotedprintable"
	"strings"
	"unicode"

	"github.com/cloudmls/gateway/internal/mime"
)

// View is a message as the mail client sees it. The same message, outer header
// and status always make the same octets, so what a UID showed once it shows
// for ever. It is as safe for concurrent use as the message in it.
type View struct {
	prefix []byte
	rest   io.ReaderAt
	size   int64 // of prefix and rest
	tree   *mime.Part
}

// Limits of what a view takes over from an outer header.
const (
	maxTraceFields = 200
	maxTraceOctets = 64 << 10
)

// NewView presents an opened message: the trace fields of the outer header,
// the status field with the caller's value, then the inner octets untouched.
func NewView(outerHeader []byte, status string, m *Message) *View {
	prefix := Prefix(outerHeader, status)
	return &View{
		prefix: prefix,
		rest:   m,
		size:   int64(len(prefix)) + m.Size(),
		tree:   m.Tree().WithPrefix(prefix),
	}
}

// Size returns the number of octets.
func (v *View) Size() int64 { return v.size }

// Tree returns the part tree of what is shown. The header of its root is that
// of the view.
func (v *View) Tree() *mime.Part { return v.tree }

// ReadAt implements io.ReaderAt.
func (v *View) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read view: negative offset")
	}
	n := 0
	if off < int64(len(v.prefix)) {
		n = copy(p, v.prefix[off:])
		off += int64(n)
	}
	if n == len(p) {
		return n, nil
	}
	if v.rest == nil || off >= v.size {
		return n, io.EOF
	}
	k, err := v.rest.ReadAt(p[n:], off-int64(len(v.prefix)))
	return n + k, err
}

// Prefix returns the octets that a view puts before the inner message: those
// fields of the outer header that the way of the message left on it, unchanged
// and in their order, and the status field. Whatever else is outside does not
// get in: it is not protected.
func Prefix(outerHeader []byte, status string) []byte {
	b := appendFields(nil, outerHeader, isTrace)
	return append(b, StatusField+": "+oneLine(status)+"\r\n"...)
}

// isTrace reports whether a field says something about the way of a message,
// and not about the message.
func isTrace(name string) bool {
	switch name {
	case "return-path", "delivered-to", "received", "received-spf", "authentication-results":
		return true
	case "cloudmls-resent": // the sender's gateway sent it again, without knowing whether the first copy arrived
		return true
	}
	if name == "list-post" {
		return false // mail programs answer to it, and anybody on the way can add it
	}
	for _, prefix := range []string{"arc-", "list-", "x-spam-"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// appendFields appends the fields of a header that wanted accepts, by their
// lower-case name. Line ends become CRLF; a field that no message may have,
// with NUL or a bare CR, is left out.
func appendFields(b, header []byte, wanted func(name string) bool) []byte {
	count := 0
	for f := range mime.Fields(header) {
		if !wanted(strings.ToLower(string(f.Name))) || len(f.Name) == len(bytes.TrimRight(f.Raw, "\r\n")) {
			continue
		}
		raw := bytes.ReplaceAll(bytes.TrimRight(f.Raw, "\r\n"), []byte("\r\n"), []byte("\n"))
		if bytes.ContainsAny(raw, "\x00\r") {
			continue
		}
		raw = append(bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n")), "\r\n"...)
		if count++; count > maxTraceFields || len(b)+len(raw) > maxTraceOctets {
			break
		}
		b = append(b, raw...)
	}
	return b
}

// oneLine makes a field value of s: no control characters, no line that is too
// long.
func oneLine(s string) string {
	const limit = 900
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return strings.TrimSpace(s)
}

// stubType ends the header of a stub.
const stubType = "MIME-Version: 1.0\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\n" +
	"Content-Transfer-Encoding: quoted-printable\r\n\r\n"

// Stub presents a message that cannot be opened: a fixed text under the
// addresses, date and message ids of the outer header, none of which is
// protected. The same arguments always make the same octets.
func Stub(outerHeader []byte, status, text string) *View {
	b := Prefix(outerHeader, status)
	b = append(b, appendFields(nil, outerHeader, isEnvelope)...)
	b = append(b, stubType...)
	var body bytes.Buffer
	w := quotedprintable.NewWriter(&body)
	text = strings.TrimRight(strings.ToValidUTF8(text, "?"), "\r\n") + "\n"
	// writing to a bytes.Buffer does not fail
	_, _ = io.WriteString(w, strings.ReplaceAll(text, "\r\n", "\n"))
	_ = w.Close()
	v := &View{prefix: append(b, body.Bytes()...)}
	v.size = int64(len(v.prefix))
	v.tree = stubTree(b, body.Bytes())
	return v
}

// stubTree parses the fixed part of a stub, which is far below all limits, and
// puts the rest of the header before it.
func stubTree(header, body []byte) *mime.Part {
	fixed := len(header) - len(stubType)
	tail := append(bytes.Clone(header[fixed:]), body...)
	root, err := mime.Parse(bytes.NewReader(tail), int64(len(tail)), mime.DefaultLimits)
	if err != nil {
		// a long text in a single part breaks no limit; without structure
		// rather than without message
		root = &mime.Part{BodyLength: int64(len(tail))}
	}
	return root.WithPrefix(header[:fixed])
}

func isEnvelope(name string) bool {
	switch name {
	case "from", "to", "cc", "date", "message-id", "in-reply-to", "references", "subject":
		return true
	}
	return false
}
