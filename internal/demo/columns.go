package demo

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// columnWidth is the width of each of the two columns, in characters; with the
// rule between them a step fits into 100.
const columnWidth = 48

// printColumns shows what the provider stores beside what the reader sees.
func printColumns(w io.Writer, stored, seen []string) {
	fmt.Fprintf(w, "   %s | %s\n", pad("at the provider", columnWidth), "for the reader")
	fmt.Fprintf(w, "   %s-+-%s\n", strings.Repeat("-", columnWidth), strings.Repeat("-", columnWidth))
	for i := range max(len(stored), len(seen)) {
		var left, right string
		if i < len(stored) {
			left = stored[i]
		}
		if i < len(seen) {
			right = seen[i]
		}
		fmt.Fprintf(w, "   %s | %s\n", pad(printable(left), columnWidth), cut(printable(right), columnWidth))
	}
}

// excerpt picks the lines of a message that tell the most: some header fields
// and the first lines of the body, at most n lines.
func excerpt(msg []byte, fields []string, n int) []string {
	text := strings.ReplaceAll(string(msg), "\r\n", "\n")
	header, body, _ := strings.Cut(text, "\n\n")
	unfolded := strings.NewReplacer("\n ", " ", "\n\t", " ").Replace(header)
	var out []string
	for _, name := range fields {
		for line := range strings.SplitSeq(unfolded, "\n") {
			if len(line) > len(name) && strings.EqualFold(line[:len(name)], name) && line[len(name)] == ':' {
				out = append(out, line)
			}
		}
	}
	for line := range strings.SplitSeq(body, "\n") {
		if len(out) >= n {
			break
		}
		if strings.TrimSpace(line) != "" {
			out = append(out, line)
		}
	}
	return out
}

func pad(s string, width int) string {
	s = cut(s, width)
	return s + strings.Repeat(" ", width-utf8.RuneCountInString(s))
}

func cut(s string, width int) string {
	if utf8.RuneCountInString(s) <= width {
		return s
	}
	r := []rune(s)
	return string(r[:width-1]) + "…"
}

// printable keeps control characters of messages away from the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}
