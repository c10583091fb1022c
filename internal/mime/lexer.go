package mime

// status says where a lexer stands after it read something. The three values
// matter: broken addresses are reported as far as they went, and that depends
// on whether the text was bad or merely over.
type status int

const (
	bad  status = iota - 1 // not what was asked for
	end                    // read, and the text is over
	more                   // read, and more text follows
)

// nulReplacement stands for NUL octets in what a header says (U+FFFD).
const nulReplacement = "\xef\xbf\xbd"

// lexer reads the structured header fields of RFC 5322 section 3.2 and RFC
// 2045 section 5.1, as leniently as deployed servers do: octets above 127
// count as letters, white space around dots is skipped.
type lexer struct {
	s   []byte
	pos int

	// comment is the content of the last comment, kept for addresses whose
	// display name is a comment ("bob@example.org (Bob)").
	comment []byte
}

func (x *lexer) done() bool { return x.pos >= len(x.s) }

// at reports whether the next octet is c.
func (x *lexer) at(c byte) bool { return x.pos < len(x.s) && x.s[x.pos] == c }

func (x *lexer) rest() status {
	if x.done() {
		return end
	}
	return more
}

// isAtext reports whether c may be part of an atom (RFC 5322 section 3.2.3).
func isAtext(c byte) bool {
	switch {
	case c >= 0x80, 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '/', '=', '?', '^', '_', '`', '{', '|', '}', '~':
		return true
	}
	return false
}

// isToken reports whether c may be part of a token (RFC 2045 section 5.1).
func isToken(c byte) bool {
	return c == '.' || isAtext(c) && c != '/' && c != '=' && c != '?'
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// skipCFWS skips comments and folding white space (RFC 5322 section 3.2.2).
func (x *lexer) skipCFWS() status {
	for !x.done() {
		switch {
		case isSpace(x.s[x.pos]):
			x.pos++
		case x.s[x.pos] == '(':
			if x.skipComment() == bad {
				return bad
			}
		default:
			return more
		}
	}
	return end
}

func (x *lexer) skipComment() status {
	x.comment = x.comment[:0]
	sure := 0 // octets that are kept of a comment that does not end
	x.pos++   // "("
	for level := 1; !x.done(); x.pos++ {
		c := x.s[x.pos]
		switch c {
		case '(':
			level++
		case ')':
			if level--; level == 0 {
				x.pos++
				return x.rest()
			}
		case '\\':
			sure = len(x.comment)
			if x.pos++; x.done() {
				return bad
			}
			c = x.s[x.pos]
		}
		x.comment = appendText(x.comment, c)
	}
	x.comment = x.comment[:sure]
	return bad
}

func appendText(dst []byte, c byte) []byte {
	if c == 0 {
		return append(dst, nulReplacement...)
	}
	return append(dst, c)
}

// atom appends an atom to dst and skips what may follow it.
func (x *lexer) atom(dst []byte) ([]byte, status) {
	start := x.pos
	for !x.done() && isAtext(x.s[x.pos]) {
		x.pos++
	}
	if x.pos == start {
		return dst, bad
	}
	dst = append(dst, x.s[start:x.pos]...)
	if x.done() {
		return dst, end
	}
	return dst, x.skipCFWS()
}

// dotAtom appends a dot-atom to dst, without the white space and comments that
// the obsolete syntax allows around dots.
func (x *lexer) dotAtom(dst []byte) ([]byte, status) {
	if x.done() || !isAtext(x.s[x.pos]) {
		return dst, bad
	}
	for {
		start := x.pos
		for !x.done() && isAtext(x.s[x.pos]) {
			x.pos++
		}
		if x.pos == start {
			return dst, bad
		}
		dst = append(dst, x.s[start:x.pos]...)
		if x.done() {
			return dst, end
		}
		if st := x.skipCFWS(); st != more {
			return dst, st
		}
		if !x.at('.') {
			return dst, more
		}
		x.pos++
		dst = append(dst, '.')
		if x.skipCFWS() != more {
			return dst, bad
		}
	}
}

// localAtom appends an unquoted local part to dst. Dots may stand anywhere, as
// some domains allow.
func (x *lexer) localAtom(dst []byte) (text []byte, st status) {
	st = bad
	for {
		for x.at('.') {
			dst = append(dst, '.')
			if x.pos++; x.done() {
				return dst, end
			}
			st = more
		}
		if x.at('@') {
			return dst, st
		}
		if dst, st = x.atom(dst); st != more || !x.at('.') {
			return dst, st
		}
	}
}

// dotWord appends a run of atom octets and dots to dst: one word of a phrase.
func (x *lexer) dotWord(dst []byte) ([]byte, status) {
	start := x.pos
	for !x.done() && (isAtext(x.s[x.pos]) || x.s[x.pos] == '.') {
		x.pos++
	}
	dst = append(dst, x.s[start:x.pos]...)
	if x.done() {
		return dst, end
	}
	return dst, x.skipCFWS()
}

// token appends a MIME token to dst; it may be empty.
func (x *lexer) token(dst []byte) ([]byte, status) {
	start := x.pos
	for !x.done() && isToken(x.s[x.pos]) {
		x.pos++
	}
	dst = append(dst, x.s[start:x.pos]...)
	if x.done() {
		return dst, end
	}
	return dst, x.skipCFWS()
}

// quoted appends the content of a quoted string to dst, unescaped and
// unfolded. The lexer must stand at its opening quote. Of a string that does
// not end, what stands before its last line end or escape is appended.
func (x *lexer) quoted(dst []byte) ([]byte, status) {
	sure := len(dst)
	for x.pos++; !x.done(); x.pos++ {
		c := x.s[x.pos]
		switch c {
		case '"':
			x.pos++
			return dst, x.skipCFWS()
		case '\n':
			if x.s[x.pos-1] == '\r' && len(dst) > 0 && dst[len(dst)-1] == '\r' {
				dst = dst[:len(dst)-1]
			}
			sure = len(dst)
			continue
		case '\\':
			sure = len(dst)
			if x.pos++; x.done() {
				return dst, bad
			}
			c = x.s[x.pos]
		}
		dst = appendText(dst, c)
	}
	return dst[:sure], bad
}

// phrase appends the words of a phrase to dst, with one space between words
// (RFC 5322 section 3.2.5, obsolete dots included).
func (x *lexer) phrase(dst []byte) ([]byte, status) {
	if x.done() {
		return dst, end
	}
	if x.at('.') {
		return dst, bad
	}
	for {
		var st status
		if x.at('"') {
			dst, st = x.quoted(dst)
		} else {
			dst, st = x.dotWord(dst)
		}
		if st != more {
			return dst, st
		}
		if c := x.s[x.pos]; !isAtext(c) && c != '"' && c != '.' {
			return dst, x.skipCFWS()
		}
		dst = append(dst, ' ')
	}
}

// domain appends a domain or a domain literal to dst. The lexer must stand at
// the "@" before it.
func (x *lexer) domain(dst []byte) ([]byte, status) {
	x.pos++ // "@"
	if x.skipCFWS() != more {
		return dst, bad
	}
	if !x.at('[') {
		return x.dotAtom(dst)
	}
	start := x.pos
	for x.pos++; !x.done(); x.pos++ {
		switch x.s[x.pos] {
		case '[':
			return dst, bad
		case '\\':
			x.pos++
		case ']':
			x.pos++
			for _, c := range x.s[start:x.pos] {
				dst = appendText(dst, c)
			}
			return dst, x.skipCFWS()
		}
	}
	x.pos = len(x.s)
	return dst, bad
}
