package mime

import "bytes"

// lineKeep is the number of octets of a body line that are looked at. Longer
// boundaries are beyond any limit.
const lineKeep = 256

// Parser builds the tree of a message that is written to it piece by piece. It
// holds the headers, and of the body never more than the beginning of a line.
// It is not safe for concurrent use.
type Parser struct {
	limits Limits
	err    error // sticky

	root *Part
	open []openPart // root first, innermost last
	// marks are the boundaries of the open multiparts, innermost last.
	marks []boundary
	// inHeader says that the next line belongs to the header of the innermost
	// part, else to its body.
	inHeader bool
	// lastEOL is the length of the previous line's end, which belongs to the
	// boundary if one follows. It is 0 behind a boundary.
	lastEOL int

	offset      int64 // octets of all lines so far
	lines       int64 // line ends so far
	parts       int
	headerBytes int // of all headers together
	headerLines int // of the header under way

	held    []byte // the line under way: all of it in a header, else its beginning
	heldLen int64
	tail    [2]byte // its last octets
}

type openPart struct {
	part       *Part
	linesAbove int64 // line ends before the body
}

type boundary struct {
	text  []byte
	depth int // of its multipart, as an index into open
}

// NewParser returns a parser at the beginning of a message. Zero limits are
// those of DefaultLimits.
func NewParser(l Limits) *Parser {
	p := &Parser{limits: l.withDefaults()}
	p.root = p.push()
	return p
}

// Write parses the next octets of the message. It fails with a *LimitError once
// the message is beyond the limits, and from then on always.
func (p *Parser) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 && p.err == nil {
		if !p.inHeader && len(p.marks) == 0 && p.heldLen == 0 {
			// no boundary can come any more
			p.offset += int64(len(b))
			p.lines += int64(bytes.Count(b, []byte("\n")))
			break
		}
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			p.hold(b)
			break
		}
		if line := b[:i+1]; p.heldLen == 0 {
			p.line(line, int64(len(line)), lineEnd(line))
		} else {
			p.hold(line)
			p.flush()
		}
		b = b[i+1:]
	}
	if p.err != nil {
		return 0, p.err
	}
	return n, nil
}

// Finish ends the message and returns its root. The parser must not be used
// afterwards.
func (p *Parser) Finish() (*Part, error) {
	if p.err == nil && p.heldLen > 0 {
		p.flush()
	}
	for p.err == nil && p.inHeader {
		p.endHeader(false)
	}
	if p.err != nil {
		return nil, p.err
	}
	for len(p.open) > 0 {
		p.pop(p.offset, p.lines)
	}
	return p.root, nil
}

// lineEnd returns the length of the line end that b ends with: 0, 1 or 2.
func lineEnd(b []byte) int {
	switch n := len(b); {
	case n == 0 || b[n-1] != '\n':
		return 0
	case n > 1 && b[n-2] == '\r':
		return 2
	default:
		return 1
	}
}

// hold adds a piece to the line under way.
func (p *Parser) hold(b []byte) {
	keep := len(b)
	if !p.inHeader {
		keep = min(keep, max(0, lineKeep-len(p.held)))
	} else if p.headerBytes+len(p.held)+len(b) > p.limits.HeaderBytes {
		p.exceeds("header octets", p.limits.HeaderBytes)
		return
	}
	p.held = append(p.held, b[:keep]...)
	p.heldLen += int64(len(b))
	if len(b) == 1 {
		p.tail[0] = p.tail[1]
	} else {
		p.tail[0] = b[len(b)-2]
	}
	p.tail[1] = b[len(b)-1]
}

// flush handles the line that was held.
func (p *Parser) flush() {
	eol := lineEnd(p.tail[:min(p.heldLen, 2)])
	if p.heldLen == 1 {
		eol = lineEnd(p.tail[1:])
	}
	text, n := p.held, p.heldLen
	p.held, p.heldLen = p.held[:0], 0
	p.line(text, n, eol)
}

// line handles one line of n octets, eol of them its end. text is its
// beginning, in a header all of it.
func (p *Parser) line(text []byte, n int64, eol int) {
	mark := p.findBoundary(text, n, eol)
	switch {
	case mark >= 0:
		p.boundaryLine(mark, text, n, eol)
	case p.inHeader:
		p.headerLine(text, eol)
	default:
		p.advance(n, eol)
		p.lastEOL = eol
	}
}

func (p *Parser) advance(n int64, eol int) {
	p.offset += n
	if eol > 0 {
		p.lines++
	}
}

func (p *Parser) headerLine(text []byte, eol int) {
	if p.headerBytes += len(text); p.headerBytes > p.limits.HeaderBytes {
		p.exceeds("header octets", p.limits.HeaderBytes)
		return
	}
	if p.headerLines++; p.headerLines > p.limits.HeaderLines {
		p.exceeds("header lines", p.limits.HeaderLines)
		return
	}
	part := p.top()
	part.Header = append(part.Header, text...)
	p.advance(int64(len(text)), eol)
	p.lastEOL = eol
	if isBlankLine(text) {
		p.endHeader(true)
	}
}

// findBoundary returns the index in marks of the boundary that the line is, or
// -1. Only the beginning has to match (RFC 2046 section 5.1.1), so of several
// that do the longest counts, and the innermost among equals.
func (p *Parser) findBoundary(text []byte, n int64, eol int) int {
	if len(p.marks) == 0 || len(text) < 2 || text[0] != '-' || text[1] != '-' {
		return -1
	}
	if n == int64(len(text)) {
		text = text[:len(text)-eol]
	}
	best := -1
	rest := text[min(2, len(text)):]
	closed, closes := bytes.CutSuffix(rest, []byte("--"))
	for i := len(p.marks) - 1; i >= 0; i-- {
		m := p.marks[i].text
		if !bytes.HasPrefix(rest, m) || best >= 0 && len(p.marks[best].text) >= len(m) {
			continue
		}
		best = i
		if len(m) == len(rest) || closes && len(m) == len(closed) {
			break
		}
	}
	return best
}

// boundaryLine ends the parts inside the multipart that the boundary belongs
// to, and begins its next part or its epilogue.
func (p *Parser) boundaryLine(mark int, text []byte, n int64, eol int) {
	b := p.marks[mark]
	endOffset, endLines := p.beforeLastEOL()
	for p.inHeader && p.err == nil {
		p.endHeader(false)
	}
	cut := 0
	if len(p.open)-1 > b.depth {
		cut = p.cutHeader(endOffset, endLines)
	}
	for len(p.open)-1 > b.depth {
		if len(p.open)-1 < cut {
			endOffset, endLines = p.offset, p.lines
		}
		p.pop(endOffset, endLines)
	}
	last := bytes.HasPrefix(text[2+len(b.text):], []byte("--"))
	p.advance(n, eol)
	p.lastEOL = 0
	if last {
		p.marks = p.marks[:mark]
		return
	}
	p.marks = p.marks[:mark+1]
	if eol > 0 && p.err == nil {
		p.push()
	}
}

func (p *Parser) beforeLastEOL() (offset, lines int64) {
	offset, lines = p.offset-int64(p.lastEOL), p.lines
	if p.lastEOL > 0 {
		lines--
	}
	return offset, lines
}

// cutHeader handles a boundary that follows a header, with or without a blank
// line between: the last line end belongs to the boundary, so the header ends
// at offset, before it. It returns the index of the part whose header was cut
// (the parts around it do contain the line end), 0 if none was.
func (p *Parser) cutHeader(offset, lines int64) int {
	i := len(p.open) - 1
	if p.top().BodyOffset != p.offset {
		return 0
	}
	for ; ; i-- {
		part := p.open[i].part
		part.BodyOffset = offset
		p.open[i].linesAbove = lines
		if len(part.Header) > 0 || i == 0 || !p.open[i-1].part.Message {
			part.Header = part.Header[:max(0, len(part.Header)-p.lastEOL)]
			part.HeaderLength = int64(len(part.Header))
			return i
		}
		part.HeaderOffset = offset
	}
}

// endHeader ends the header under way and decides what the part is. complete
// says that a blank line ended it.
func (p *Parser) endHeader(complete bool) {
	part := p.top()
	part.HeaderLength = p.offset - part.HeaderOffset
	part.BodyOffset = p.offset
	p.open[len(p.open)-1].linesAbove = p.lines
	p.inHeader = false
	var parent *Part
	if len(p.open) > 1 {
		parent = p.open[len(p.open)-2].part
	}
	mark := part.classify(parent)
	if part.Multipart && mark != nil && complete {
		if len(mark) > p.limits.BoundaryLength {
			p.exceeds("boundary octets", p.limits.BoundaryLength)
			return
		}
		p.marks = append(p.marks, boundary{text: mark, depth: len(p.open) - 1})
	}
	if part.Message {
		p.push()
	}
}

func (p *Parser) top() *Part { return p.open[len(p.open)-1].part }

// push begins a part inside the innermost one, at the current offset.
func (p *Parser) push() *Part {
	if len(p.open) > p.limits.Depth {
		p.exceeds("levels of parts", p.limits.Depth)
		return nil
	}
	if p.parts++; p.parts > p.limits.Parts {
		p.exceeds("parts", p.limits.Parts)
		return nil
	}
	part := &Part{HeaderOffset: p.offset}
	if len(p.open) > 0 {
		parent := p.top()
		parent.Children = append(parent.Children, part)
	}
	p.open = append(p.open, openPart{part: part})
	p.inHeader, p.headerLines = true, 0
	return part
}

// pop ends the innermost part, whose body ends at offset.
func (p *Parser) pop(offset, lines int64) {
	o := p.open[len(p.open)-1]
	p.open = p.open[:len(p.open)-1]
	o.part.BodyLength = offset - o.part.BodyOffset
	o.part.Lines = lines - o.linesAbove
}

func (p *Parser) exceeds(what string, limit int) {
	if p.err == nil {
		p.err = &LimitError{What: what, Max: limit}
	}
}

// classify sets what the header says the part is, and returns the boundary of
// a multipart, nil if it has none. parent is nil for the root.
func (part *Part) classify(parent *Part) (mark []byte) {
	part.mime = parent != nil && parent.Multipart
	typed := false
	for f := range Fields(part.Header) {
		switch {
		case f.Is("MIME-Version"):
			part.mime = true
		case f.Is("Content-Type"):
			part.mime = true
			if !typed {
				typed = true
				mark = part.classifyType(f.Unfolded())
			}
		}
	}
	if !typed && parent != nil && parent.digest {
		part.Message = true
	}
	return mark
}

func (part *Part) classifyType(value []byte) (mark []byte) {
	x := lexer{s: value}
	text, st := x.mediaType()
	if st == bad {
		return nil
	}
	switch {
	case bytes.EqualFold(text, []byte("message/rfc822")):
		part.Message = true
	case len(text) >= 10 && bytes.EqualFold(text[:10], []byte("multipart/")):
		part.Multipart = true
		part.digest = bytes.EqualFold(text[10:], []byte("digest"))
	}
	if !part.Multipart {
		return nil
	}
	for _, p := range x.parameters() {
		if bytes.EqualFold(p.Name, []byte("boundary")) {
			return p.Value
		}
	}
	return nil
}
