package wire

import (
	"bytes"
	"errors"
)

// ErrSyntax is returned for text that is not what the grammar asks for.
var ErrSyntax = errors.New("imap syntax error")

// maxNesting bounds parentheses within one value.
const maxNesting = 64

// Scanner walks over a complete command or response in memory, literals
// included: announcement, CRLF, content. Slices that it returns point into
// that memory unless unescaping made a copy necessary.
type Scanner struct {
	b   []byte
	pos int
}

// NewScanner returns a Scanner over b.
func NewScanner(b []byte) *Scanner { return &Scanner{b: b} }

// Pos returns the offset of the next octet.
func (s *Scanner) Pos() int { return s.pos }

// Rest returns what has not been read.
func (s *Scanner) Rest() []byte { return s.b[s.pos:] }

// End tells whether everything has been read, a final CRLF aside.
func (s *Scanner) End() bool {
	r := s.b[s.pos:]
	return len(r) == 0 || len(r) == 2 && r[0] == '\r' && r[1] == '\n'
}

// Peek returns the next octet, 0 at the end.
func (s *Scanner) Peek() byte {
	if s.pos >= len(s.b) {
		return 0
	}
	return s.b[s.pos]
}

// Byte consumes c if it is next.
func (s *Scanner) Byte(c byte) bool {
	if s.pos < len(s.b) && s.b[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

// SP consumes one space.
func (s *Scanner) SP() bool { return s.Byte(' ') }

// IsAtomByte tells whether c may stand in an atom (RFC 9051 ATOM-CHAR), with
// "]" allowed as in an astring.
func IsAtomByte(c byte) bool {
	switch c {
	case '(', ')', '{', ' ', '%', '*', '"', '\\', 0x7f:
		return false
	}
	return c > ' ' && c < 0x80
}

// Atom consumes a run of atom characters; it may not be empty.
func (s *Scanner) Atom() ([]byte, bool) { return s.While(IsAtomByte) }

// While consumes a non-empty run of octets that satisfy ok.
func (s *Scanner) While(ok func(byte) bool) ([]byte, bool) {
	start := s.pos
	for s.pos < len(s.b) && ok(s.b[s.pos]) {
		s.pos++
	}
	return s.b[start:s.pos], s.pos > start
}

// Number consumes digits.
func (s *Scanner) Number() (uint64, bool) {
	start := s.pos
	var n uint64
	for s.pos < len(s.b) && s.b[s.pos] >= '0' && s.b[s.pos] <= '9' {
		if s.pos-start >= 18 {
			return 0, false
		}
		n = n*10 + uint64(s.b[s.pos]-'0')
		s.pos++
	}
	return n, s.pos > start
}

// AString consumes an atom, quoted string or literal.
func (s *Scanner) AString() ([]byte, bool) {
	switch s.Peek() {
	case '"', '{', '~':
		if v, ok := s.String(); ok {
			return v, true
		}
		if s.Peek() != '~' {
			return nil, false
		}
	}
	return s.Atom()
}

// NString consumes a quoted string, a literal or NIL, which gives nil, true.
func (s *Scanner) NString() ([]byte, bool) {
	if c := s.Peek(); c == '"' || c == '{' || c == '~' {
		return s.String()
	}
	a, ok := s.Atom()
	if !ok || !bytes.EqualFold(a, []byte("NIL")) {
		return nil, false
	}
	return nil, true
}

// String consumes a quoted string or a literal. The value is never nil.
func (s *Scanner) String() ([]byte, bool) {
	if s.Peek() == '"' {
		return s.quoted()
	}
	return s.literal()
}

func (s *Scanner) quoted() ([]byte, bool) {
	start := s.pos + 1
	escaped := false
	for i := start; i < len(s.b); i++ {
		switch s.b[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			v := s.b[start:i:i]
			s.pos = i + 1
			if escaped {
				v = unescape(v)
			}
			return v, true
		case '\r', '\n', 0:
			return nil, false
		}
	}
	return nil, false
}

func unescape(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		if b[i] == '\\' && i+1 < len(b) {
			i++
		}
		out = append(out, b[i])
	}
	return out
}

func (s *Scanner) literal() ([]byte, bool) {
	p := s.pos
	if p < len(s.b) && s.b[p] == '~' {
		p++
	}
	if p >= len(s.b) || s.b[p] != '{' {
		return nil, false
	}
	end := bytes.IndexByte(s.b[p:min(len(s.b), p+24)], '}')
	if end < 0 {
		return nil, false
	}
	digits := s.b[p+1 : p+end]
	if len(digits) > 0 && digits[len(digits)-1] == '+' {
		digits = digits[:len(digits)-1]
	}
	n, ok := parseSize(digits)
	p += end + 1
	if !ok || len(s.b)-p < 2 || s.b[p] != '\r' || s.b[p+1] != '\n' {
		return nil, false
	}
	p += 2
	if int64(len(s.b)-p) < n {
		return nil, false
	}
	s.pos = p + int(n)
	return s.b[p:s.pos:s.pos], true
}

// Value consumes one value of any form (list, string, literal, or a run of
// other characters) and returns its octets as they stand.
func (s *Scanner) Value() ([]byte, error) {
	start := s.pos
	if err := s.skip(0); err != nil {
		return nil, err
	}
	return s.b[start:s.pos:s.pos], nil
}

func (s *Scanner) skip(depth int) error {
	if depth > maxNesting {
		return ErrSyntax
	}
	switch c := s.Peek(); c {
	case '(':
		s.pos++
		for {
			for s.SP() {
			}
			if s.Byte(')') {
				return nil
			}
			if err := s.skip(depth + 1); err != nil {
				return err
			}
			// Values that touch each other are read in different ways.
			switch s.Peek() {
			case ' ', ')', '(':
			default:
				return ErrSyntax
			}
		}
	case '"', '{', '~':
		if _, ok := s.String(); ok {
			return nil
		}
		if c != '~' {
			return ErrSyntax
		}
	}
	if _, ok := s.While(isLoose); !ok {
		return ErrSyntax
	}
	return nil
}

// isLoose accepts what providers put into unquoted values, flags and numbers
// included.
func isLoose(c byte) bool {
	switch c {
	case '(', ')', '"', ' ', '\r', '\n', 0:
		return false
	}
	return true
}
