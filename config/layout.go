package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// layout knows where in a document everything stands, so that it can be
// changed without touching the rest.
type layout struct {
	text     []byte
	sections []*section // in the order of the document; the first has no header
	pairs    []*pair
	newline  string
}

// where names a table or key by its path. Names of fields are spelled as in
// their tags, however the document spells them.
type where string

func (w where) key(name string) where { return w + where("."+strconv.Quote(name)) }
func (w where) index(i int) where     { return w + where(fmt.Sprintf("[%d]", i)) }

// within reports whether w is of or below outer.
func (w where) within(outer where) bool {
	rest, ok := strings.CutPrefix(string(w), string(outer))
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// section is a header with the pairs below it.
type section struct {
	at    where
	start int // of the header; of the document for the first section
	end   int // behind the header or its last pair
	last  *pair
}

// pair is a key with its value, or an element of an array that is a table.
type pair struct {
	at         where
	parent     where // the table that its key's last part stands in
	start, end int
	value      int // start of the value
	section    *section
	// outer is the inline value around it, nil at top level. Elements of
	// inline tables and arrays stand in inner, in their order.
	outer *pair
	inner []*pair
	kind  unstable.Kind // of the value
	// dotted are the tables that the parts of a dotted key make, each with the
	// offset behind its part.
	dotted map[where]int
}

// newLayout walks a document that has been decoded before.
func newLayout(text []byte) (*layout, error) {
	l := &layout{text: text, newline: "\n", sections: []*section{{}}}
	if i := bytes.IndexByte(text, '\n'); i > 0 && text[i-1] == '\r' {
		l.newline = "\r\n"
	}
	skip := 0
	if bytes.HasPrefix(text, []byte(byteOrderMark)) {
		skip = len(byteOrderMark)
	}
	l.sections[0].start, l.sections[0].end = skip, skip
	w := &walk{l: l, skip: skip, counts: make(map[where]int)}
	w.parser.Reset(text[skip:])
	root := spot{rt: reflect.TypeFor[Gateway]()}
	at := root
	for w.parser.NextExpression() {
		switch e := w.parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			at = w.header(e, root)
		case unstable.KeyValue:
			s := l.sections[len(l.sections)-1]
			p := w.pair(e, at, s, nil)
			s.last, s.end = p, p.end
		}
	}
	return l, w.parser.Error()
}

// walk is the state of one newLayout.
type walk struct {
	l      *layout
	parser unstable.Parser
	skip   int
	counts map[where]int // of tables in arrays
}

// spot is a place in the document with the type that belongs there, nil if
// unknown.
type spot struct {
	at where
	rt reflect.Type
}

func (p spot) key(name string) spot {
	rt := p.rt
	for rt != nil && rt.Kind() == reflect.Slice {
		rt = rt.Elem()
	}
	switch {
	case rt == nil:
	case rt.Kind() == reflect.Map:
		rt = rt.Elem()
	case rt.Kind() == reflect.Struct:
		if f, ok := fieldNamed(rt, name); ok {
			name, rt = f.Tag.Get("toml"), f.Type
		} else {
			rt = nil
		}
	default:
		rt = nil
	}
	return spot{p.at.key(name), rt}
}

func (p spot) index(i int) spot { return spot{p.at.index(i), p.rt} }

func (w *walk) offset(r unstable.Range) int { return int(r.Offset) + w.skip }

func (w *walk) header(e *unstable.Node, root spot) spot {
	at := root
	start := -1
	for it := e.Key(); it.Next(); {
		node := it.Node()
		if start < 0 {
			start = w.offset(node.Raw)
		}
		at = at.key(string(node.Data))
		if e.Kind == unstable.ArrayTable && !node.Next().Valid() {
			w.counts[at.at]++
		}
		if n := w.counts[at.at]; n > 0 {
			at = at.index(n - 1)
		}
	}
	start = lineStart(w.l.text, start)
	w.l.sections = append(w.l.sections, &section{at: at.at, start: start, end: lineEnd(w.l.text, start)})
	return at
}

func (w *walk) pair(e *unstable.Node, at spot, s *section, outer *pair) *pair {
	p := &pair{section: s, outer: outer, start: w.offset(e.Raw), dotted: make(map[where]int), kind: e.Value().Kind}
	p.end = p.start + int(e.Raw.Length)
	behind := 0
	for it := e.Key(); it.Next(); {
		node := it.Node()
		if behind > 0 {
			p.dotted[at.at] = behind
		}
		p.parent = at.at
		at = at.key(string(node.Data))
		behind = w.offset(node.Raw) + int(node.Raw.Length)
	}
	p.at = at.at
	// Between key and value: blanks, the equals sign, blanks.
	p.value = behind + bytes.IndexByte(w.l.text[behind:], '=') + 1
	for w.l.text[p.value] == ' ' || w.l.text[p.value] == '\t' {
		p.value++
	}
	w.l.pairs = append(w.l.pairs, p)
	w.inside(e.Value(), at, p)
	return p
}

// inside looks into an inline table or array.
func (w *walk) inside(v *unstable.Node, at spot, p *pair) {
	switch v.Kind {
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				p.inner = append(p.inner, w.pair(it.Node(), at, p.section, p))
			}
		}
	case unstable.Array:
		for it := v.Children(); it.Next(); {
			node := it.Node()
			if node.Kind != unstable.InlineTable {
				continue // arrays of plain values are replaced as a whole
			}
			element := at.index(len(p.inner))
			start := w.offset(node.Raw)
			e := &pair{at: element.at, parent: at.at, start: start, value: start, section: p.section, outer: p, kind: node.Kind}
			w.l.pairs = append(w.l.pairs, e)
			w.inside(node, element, e)
			// The table ends at its brace, behind what it holds.
			e.end = w.l.skipTo(e.contentEnd(), '}') + 1
			p.inner = append(p.inner, e)
		}
	}
}

// contentEnd is the offset behind the last thing inside an inline value, or
// behind its opening brace or bracket.
func (p *pair) contentEnd() int {
	if n := len(p.inner); n > 0 {
		return p.inner[n-1].end
	}
	return p.value + 1
}

// skipTo returns the offset of c behind i, with nothing but blanks, line ends,
// comments and commas between.
func (l *layout) skipTo(i int, c byte) int {
	for i < len(l.text) && l.text[i] != c {
		if l.text[i] == '#' {
			i = lineEnd(l.text, i)
			continue
		}
		i++
	}
	return i
}

// find returns the pair of a path. A path that stands there twice, in other
// letters, is an error: nobody can tell which one counts.
func (l *layout) find(at where) (*pair, error) {
	var found *pair
	for _, p := range l.pairs {
		if p.at != at {
			continue
		}
		if found != nil {
			return nil, errors.New("the key is there twice")
		}
		found = p
	}
	return found, nil
}

// section returns the section with a header of its own for a table, or nil.
func (l *layout) section(at where) *section {
	for _, s := range l.sections {
		if s.at == at {
			return s
		}
	}
	return nil
}

// lineStart returns the offset of the first octet of the line of i.
func lineStart(b []byte, i int) int { return bytes.LastIndexByte(b[:i], '\n') + 1 }

// lineEnd returns the offset of the line end (LF) of the line of i, or the end
// of the text.
func lineEnd(b []byte, i int) int {
	if n := bytes.IndexByte(b[i:], '\n'); n >= 0 {
		return i + n
	}
	return len(b)
}
