package main

import (
	"strings"
	"unicode"
)

// plainText makes text with words of servers, correspondents and files in it
// fit for a terminal: control characters, which can move the cursor, rewrite
// what stands there or change the title, become question marks, and so do the
// characters that change the direction of writing. Line ends and tabs stay.
func plainText(s string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}
