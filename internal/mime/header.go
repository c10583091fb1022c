package mime

import (
	"bytes"
	"iter"
	"strings"
)

// Field is one header field, with pointers into the header it is from.
type Field struct {
	// Name is the field name as written, without the white space before the
	// colon that the obsolete syntax allows. It is nil for a line without a
	// colon, which is no field.
	Name []byte
	// Value is everything behind the colon and the white space that follows
	// it, folded as it is, without the last line end.
	Value []byte
	// Raw is the field with all its lines and line ends.
	Raw []byte
}

// Is reports whether the field has this name; case does not count.
func (f Field) Is(name string) bool {
	return f.Name != nil && len(f.Name) == len(name) && strings.EqualFold(string(f.Name), name)
}

// Unfolded returns the value with the line ends inside it removed. NUL octets
// become U+FFFD.
func (f Field) Unfolded() []byte {
	if bytes.IndexByte(f.Value, '\n') < 0 && bytes.IndexByte(f.Value, '\r') < 0 && bytes.IndexByte(f.Value, 0) < 0 {
		return nonNil(f.Value)
	}
	out := make([]byte, 0, len(f.Value))
	for i, c := range f.Value {
		switch {
		case c == '\n', c == '\r' && (i+1 == len(f.Value) || isSpace(f.Value[i+1])):
		case c == '\r':
			out = append(out, ' ')
		default:
			out = appendText(out, c)
		}
	}
	return out
}

// Fields iterates over the fields of a header (RFC 5322 section 2.2): what
// comes before the blank line, in order. Lines that are no field are yielded
// too, so that the Raw octets of all fields are the header without its blank
// line.
func Fields(header []byte) iter.Seq[Field] {
	return func(yield func(Field) bool) {
		for len(header) > 0 && !isBlankLine(header) {
			n := fieldLength(header)
			if !yield(makeField(header[:n])) {
				return
			}
			header = header[n:]
		}
	}
}

// isBlankLine reports whether b begins with an empty line.
func isBlankLine(b []byte) bool {
	return len(b) > 0 && b[0] == '\n' || len(b) > 1 && b[0] == '\r' && b[1] == '\n'
}

// fieldLength returns the length of the first field of b, continuation lines
// included.
func fieldLength(b []byte) int {
	n := 0
	for {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			return len(b)
		}
		n += i + 1
		if n == len(b) || b[n] != ' ' && b[n] != '\t' {
			return n
		}
	}
}

func makeField(raw []byte) Field {
	text := trimLineEnd(raw)
	first := text
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		first = trimLineEnd(text[:i+1])
	}
	colon := bytes.IndexByte(first, ':')
	if colon < 0 {
		return Field{Raw: raw}
	}
	value := text[colon+1:]
	return Field{
		Name:  bytes.TrimRight(first[:colon], " \t"),
		Value: trimInitial(value, len(first)-colon-1),
		Raw:   raw,
	}
}

// trimInitial removes the white space at the beginning of a value, whose first
// line has n octets. A first line of nothing else loses one octet only, as
// deployed servers have it.
func trimInitial(value []byte, n int) []byte {
	i := 0
	for i < n && (value[i] == ' ' || value[i] == '\t') {
		i++
	}
	if i == n && n > 0 {
		i = 1
	}
	return value[i:]
}

func trimLineEnd(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		b = b[:n-1]
		if n > 1 && b[n-2] == '\r' {
			b = b[:n-2]
		}
	}
	return b
}

// HeaderFields returns those fields of a header whose name is in names (case
// does not count), or with not those whose name is not, octets untouched and
// in their order, followed by the blank line: BODY[HEADER.FIELDS (names)] and
// BODY[HEADER.FIELDS.NOT (names)] (RFC 9051 section 6.4.5.1).
func HeaderFields(header []byte, names []string, not bool) []byte {
	var out []byte
	rest := header
	for f := range Fields(header) {
		rest = rest[len(f.Raw):]
		listed := false
		for _, name := range names {
			listed = listed || f.Is(name)
		}
		if listed != not {
			out = append(out, f.Raw...)
			if !bytes.HasSuffix(f.Raw, []byte("\n")) {
				out = append(out, "\r\n"...)
			}
		}
	}
	if len(rest) == 0 {
		return append(out, "\r\n"...)
	}
	return append(out, rest...)
}
