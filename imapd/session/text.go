package session

import (
	"bytes"
	"strings"
)

func equalFold(a, b string) bool { return strings.EqualFold(a, b) }

// containsFold tells whether b contains the ASCII text sub, which is in lower
// case, regardless of case.
func containsFold(b []byte, sub string) bool {
	if len(sub) == 0 {
		return true
	}
	lo, up := sub[0], sub[0]
	if lo >= 'a' && lo <= 'z' {
		up = lo - 'a' + 'A'
	}
	for len(b) >= len(sub) {
		i := bytes.IndexByte(b, lo)
		if up != lo {
			if j := bytes.IndexByte(b, up); j >= 0 && (i < 0 || j < i) {
				i = j
			}
		}
		if i < 0 || len(b)-i < len(sub) {
			return false
		}
		if strings.EqualFold(string(b[i:i+len(sub)]), sub) {
			return true
		}
		b = b[i+1:]
	}
	return false
}

// oneLine makes text safe to stand in a response: one line, 7 bit, not long.
func oneLine(text string) string {
	const limit = 400
	var b strings.Builder
	for _, r := range text {
		switch {
		case b.Len() >= limit:
			return b.String() + "..."
		case r < ' ' || r == 0x7f:
			b.WriteByte(' ')
		case r > 0x7f:
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
