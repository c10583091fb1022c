package overlay

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/cloudmls/gateway/imapd/policy"
	"github.com/cloudmls/gateway/internal/mime"
)

// ErrUnsupported is returned for content items that the overlay does not make.
var ErrUnsupported = errors.New("fetch item is not available for encrypted messages")

// eager is how much is read at a time. Sections up to this size are answered
// from memory, larger ones from a spool.
const eager = 64 << 10

// Answer is a FETCH response of a sealed message, ready to be written: small
// pieces in memory, large ones in the content's spool.
type Answer struct {
	pieces  []piece
	view    *View
	content *Content
}

// piece is octets in memory, or else n octets of the content from off.
type piece struct {
	data   []byte
	off, n int64
}

// NewAnswer answers the items of a request for one message. provider holds
// what the provider answered for the items that are its own; flags there must
// be final already. All content is read here, so that what cannot be had or is
// corrupt is an error before anything was promised: a literal that was announced
// never breaks off for it.
func NewAnswer(seq uint32, items []Item, c *Content, provider []ResponseItem) (*Answer, error) {
	a := &Answer{view: c.view, content: c}
	buf := append(strconv.AppendUint([]byte("* "), uint64(seq), 10), " FETCH ("...)
	first := true
	space := func() {
		if !first {
			buf = append(buf, ' ')
		}
		first = false
	}
	asked := make(map[string]bool, len(items))
	for i := range items {
		it := &items[i]
		switch it.Class() {
		case policy.Unsupported:
			return nil, ErrUnsupported
		case policy.Provider:
			name := string(it.Text)
			p := FindItem(provider, upper(name))
			if p == nil || asked[p.Name] {
				continue
			}
			asked[p.Name] = true
			space()
			buf = append(append(append(buf, p.Name...), ' '), p.Value...)
		case policy.Content:
			space()
			var err error
			if buf, err = a.item(buf, it); err != nil {
				return nil, err
			}
		}
	}
	// What the provider says unasked, such as FLAGS after \Seen was set.
	for _, p := range provider {
		if !asked[p.Name] {
			asked[p.Name] = true
			space()
			buf = append(append(append(buf, p.Name...), ' '), p.Value...)
		}
	}
	a.pieces = append(a.pieces, piece{data: append(buf, ")\r\n"...)})
	return a, nil
}

func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - 'a' + 'A'
		}
	}
	return string(b)
}

// item answers one item from the opened message.
func (a *Answer) item(buf []byte, it *Item) ([]byte, error) {
	v := a.view
	switch it.Name {
	case "RFC822.SIZE":
		return strconv.AppendInt(append(buf, "RFC822.SIZE "...), v.Size, 10), nil
	case "ENVELOPE":
		e := v.Tree.Envelope()
		return AppendEnvelope(append(buf, "ENVELOPE "...), &e), nil
	case "BODYSTRUCTURE":
		return AppendBodyStructure(append(buf, "BODYSTRUCTURE "...), v.Tree.BodyStructure(), true), nil
	case "RFC822", "RFC822.PEEK":
		return a.octets(append(buf, "RFC822"...), 0, v.Size)
	case "RFC822.HEADER":
		return literal(append(buf, "RFC822.HEADER"...), v.Tree.Header), nil
	case "RFC822.TEXT":
		return a.octets(append(buf, "RFC822.TEXT"...), v.Tree.BodyOffset, v.Tree.BodyLength)
	}
	if it.Section == nil { // BODY
		return AppendBodyStructure(append(buf, "BODY "...), v.Tree.BodyStructure(), false), nil
	}
	s := it.Section
	buf = s.label(append(buf, "BODY"...))
	if s.Partial {
		buf = append(buf, '<')
		buf = strconv.AppendInt(buf, s.Offset, 10)
		buf = append(buf, '>')
	}
	r := resolve(v, s)
	if r.data != nil {
		return literal(buf, cut(r.data, s)), nil
	}
	off, n := r.off, r.n
	if s.Partial {
		skip := min(s.Offset, n)
		off, n = off+skip, min(s.Count, n-skip)
	}
	return a.octets(buf, off, n)
}

func cut(b []byte, s *Section) []byte {
	if !s.Partial {
		return b
	}
	b = b[min(s.Offset, int64(len(b))):]
	return b[:min(s.Count, int64(len(b)))]
}

// resolved is where a section is: octets, or a range of the content. What does
// not exist is empty, as at most providers: clients know that form better than
// NIL.
type resolved struct {
	data   []byte
	off, n int64
}

// resolve finds a section (RFC 9051 section 6.4.5).
func resolve(v *View, s *Section) resolved {
	p := v.Tree
	if len(s.Path) > 0 {
		if p = v.Tree.Find(s.Path); p == nil {
			return resolved{data: []byte{}}
		}
		switch s.Spec {
		case "":
			return resolved{off: p.BodyOffset, n: p.BodyLength}
		case "MIME":
			return resolved{data: nonNil(p.Header)}
		}
		// HEADER and TEXT refer to the message that the part holds.
		if !p.Message {
			return resolved{data: []byte{}}
		}
		p = p.Children[0]
	}
	switch s.Spec {
	case "":
		return resolved{off: 0, n: v.Size}
	case "HEADER":
		return resolved{data: nonNil(p.Header)}
	case "TEXT":
		return resolved{off: p.BodyOffset, n: p.BodyLength}
	}
	return resolved{data: nonNil(mime.HeaderFields(p.Header, s.Fields, s.Not()))}
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func literal(buf, data []byte) []byte {
	buf = append(buf, " {"...)
	buf = strconv.AppendInt(buf, int64(len(data)), 10)
	buf = append(buf, "}\r\n"...)
	return append(buf, data...)
}

// octets appends a literal with a range of the content: the octets themselves
// where they are few, else a piece of its own, after they were read into the
// spool. It returns the buffer to go on with.
func (a *Answer) octets(buf []byte, off, n int64) ([]byte, error) {
	buf = append(buf, " {"...)
	buf = strconv.AppendInt(buf, n, 10)
	buf = append(buf, "}\r\n"...)
	if n <= eager {
		start := len(buf)
		buf = append(buf, make([]byte, n)...)
		return buf, a.content.read(buf[start:], off)
	}
	if err := a.content.fill(off, n); err != nil {
		return nil, err
	}
	a.pieces = append(a.pieces, piece{data: buf}, piece{off: off, n: n})
	return nil, nil
}

// readAt fills p from off.
func readAt(r io.ReaderAt, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("read message content: %w", err)
}

// WriteTo writes the response. An error of the spool in the middle of a literal
// leaves it incomplete: the connection is of no more use then.
func (a *Answer) WriteTo(w io.Writer) (int64, error) {
	var total int64
	var buf []byte
	for _, p := range a.pieces {
		n, err := w.Write(p.data)
		total += int64(n)
		if err != nil {
			return total, err
		}
		for off, left := p.off, p.n; left > 0; {
			if buf == nil {
				buf = make([]byte, eager)
			}
			b := buf[:min(left, eager)]
			if err := a.content.read(b, off); err != nil {
				return total, err
			}
			n, err := w.Write(b)
			total += int64(n)
			if err != nil {
				return total, err
			}
			off, left = off+int64(n), left-int64(n)
		}
	}
	return total, nil
}
