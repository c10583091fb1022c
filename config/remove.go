package config

import "bytes"

// unset removes a key with its line; one that is not there is no error.
func (l *layout) unset(at where) ([]byte, error) {
	p, err := l.find(at)
	if err != nil || p == nil {
		return l.text, err
	}
	if p.outer != nil {
		return l.removeInline(p), nil
	}
	end := lineEnd(l.text, p.end)
	return splice(l.text, lineStart(l.text, p.start), min(end+1, len(l.text)), ""), nil
}

// removeInline removes an item of an inline table or array, with one comma.
func (l *layout) removeInline(p *pair) []byte {
	siblings := p.outer.inner
	for i, s := range siblings {
		if s != p {
			continue
		}
		if i+1 < len(siblings) {
			comma := l.skipTo(p.end, ',')
			end := comma + 1
			for l.text[end] == ' ' {
				end++
			}
			return splice(l.text, p.start, end, "")
		}
		if l.trailingComma(p) {
			comma := l.skipTo(p.end, ',')
			return splice(splice(l.text, comma, comma+1, ""), p.start, p.end, "")
		}
		from := p.start
		for from > 0 && l.text[from-1] == ' ' {
			from--
		}
		if i == 0 {
			return splice(l.text, from, p.end, "")
		}
		comma := l.skipTo(siblings[i-1].end, ',')
		return splice(splice(l.text, from, p.end, ""), comma, comma+1, "")
	}
	return l.text
}

// trailingComma reports whether a comma follows the last item.
func (l *layout) trailingComma(p *pair) bool {
	for i := p.end; i < p.outer.end; i++ {
		switch l.text[i] {
		case '#':
			i = lineEnd(l.text, i)
		case ',':
			return true
		case '}', ']':
			return false
		}
	}
	return false
}

// removeTable removes an element of an array of tables and all below it, with
// the comments that stand directly above.
func (l *layout) removeTable(at where) ([]byte, error) {
	p, err := l.find(at)
	if err != nil {
		return nil, err
	}
	if p != nil {
		return l.removeInline(p), nil
	}
	if l.section(at) == nil {
		return nil, errLayout
	}
	text := l.text
	// From the end, so that offsets before stay true. Neighbours go in one
	// piece: comments between them are about what is removed.
	for last := len(l.sections) - 1; last > 0; last-- {
		if !l.sections[last].at.within(at) {
			continue
		}
		first := last
		for l.sections[first-1].at.within(at) {
			first--
		}
		from, to := l.lead(first), l.tail(last)
		if from == 0 || endsBlank(l.text[:from]) {
			for to < len(l.text) && isBlank(l.line(to)) {
				to = min(lineEnd(l.text, to)+1, len(l.text))
			}
		}
		text = splice(text, from, to, "")
		last = first
	}
	return text, nil
}

// extent returns the offset behind a table of the array and all below it.
func (l *layout) extent(at where) int {
	for i := len(l.sections) - 1; i > 0; i-- {
		if l.sections[i].at.within(at) {
			return l.tail(i)
		}
	}
	return len(l.text)
}

// lead returns the offset of the comment lines directly above a header.
func (l *layout) lead(i int) int {
	start := l.sections[i].start
	for start > 0 {
		before := lineStart(l.text, start-1)
		if before < l.sections[i-1].end || !isComment(l.line(before)) {
			break
		}
		start = before
	}
	return start
}

// tail returns the offset behind the last line of a section and the comment
// lines directly below, unless they belong to the next header.
func (l *layout) tail(i int) int {
	limit := len(l.text)
	if i+1 < len(l.sections) {
		limit = l.lead(i + 1)
	}
	end := min(lineEnd(l.text, l.sections[i].end)+1, len(l.text))
	for end < limit && isComment(l.line(end)) {
		end = min(lineEnd(l.text, end)+1, len(l.text))
	}
	return end
}

func (l *layout) line(start int) []byte { return l.text[start:lineEnd(l.text, start)] }

func isComment(line []byte) bool { return bytes.HasPrefix(bytes.TrimLeft(line, " \t"), []byte("#")) }

func isBlank(line []byte) bool { return len(bytes.TrimSpace(line)) == 0 }

// endsBlank reports whether text ends with a blank line.
func endsBlank(text []byte) bool {
	return len(text) > 0 && isBlank(text[lineStart(text, len(text)-1):])
}
