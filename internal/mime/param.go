package mime

import (
	"bytes"
	"slices"
	"strconv"
)

// maxParams bounds the parameters of one field; the rest is ignored.
const maxParams = 1000

// mediaType reads type "/" subtype, which only parameters may follow. A type
// alone is read if nothing follows it.
func (x *lexer) mediaType() (text []byte, st status) {
	if x.skipCFWS() != more {
		return nil, bad
	}
	if text, st = x.token(nil); st != more {
		return text, end
	}
	if len(text) == 0 || !x.at('/') {
		return nil, bad
	}
	x.pos++
	if x.skipCFWS() != more {
		return nil, bad
	}
	n := len(text) + 1
	text, st = x.token(append(text, '/'))
	if len(text) == n || st == more && !x.at(';') {
		return nil, bad
	}
	return text, st
}

// parameter reads ";" attribute "=" value. At the end of the text it returns
// end and nothing.
func (x *lexer) parameter() (p Param, st status) {
	if x.done() {
		return p, end
	}
	if !x.at(';') {
		return p, bad
	}
	x.pos++
	if x.skipCFWS() != more {
		return p, bad
	}
	if p.Name, st = x.token(nil); st != more || !x.at('=') {
		return p, bad
	}
	x.pos++
	st = x.skipCFWS()
	switch {
	case st != more: // no value
	case x.at('"'):
		p.Value, st = x.quoted(nil)
	case x.at('='):
		// name==?utf-8?b?...?= is common enough to be read
		start := x.pos
		for !x.done() && x.s[x.pos] != ';' && !isSpace(x.s[x.pos]) {
			x.pos++
		}
		p.Value = x.s[start:x.pos]
	default:
		p.Value, st = x.token(nil)
	}
	if st == bad {
		return p, bad
	}
	return p, more
}

// parameters reads all parameters that follow. The pieces of a parameter that
// is spread over several (RFC 2231 section 3) are put together, in the order
// of their numbers; percent and charset encoding (section 4) is left as it is,
// with the "*" at the end of the name that announces it.
func (x *lexer) parameters() []Param {
	var plain []Param
	var pieces []piece
	for len(plain)+len(pieces) < maxParams {
		p, st := x.parameter()
		if st == end {
			break
		}
		if st == bad {
			if x.done() {
				break
			}
			x.pos++ // try to go on anyway
			continue
		}
		if pc, ok := asPiece(p); ok {
			pieces = append(pieces, pc)
		} else {
			plain = append(plain, Param{p.Name, nonNil(p.Value)})
		}
	}
	return append(plain, joinPieces(pieces)...)
}

// piece is a parameter of the forms name*, name*N and name*N*.
type piece struct {
	name, value []byte
	index       uint32
	extended    bool
}

func asPiece(p Param) (piece, bool) {
	star := bytes.IndexByte(p.Name, '*')
	if star < 0 {
		return piece{}, false
	}
	pc := piece{name: p.Name[:star], value: p.Value}
	rest := p.Name[star:]
	if len(rest) > 1 {
		rest = rest[1:]
		for len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' {
			pc.index = pc.index*10 + uint32(rest[0]-'0')
			rest = rest[1:]
		}
	}
	if len(rest) > 0 && rest[0] == '*' {
		pc.extended = true
		rest = rest[1:]
	}
	return pc, len(rest) == 0
}

func joinPieces(pieces []piece) []Param {
	slices.SortStableFunc(pieces, func(a, b piece) int {
		if c := bytes.Compare(a.name, b.name); c != 0 {
			return c
		}
		return int(min(max(int64(a.index)-int64(b.index), -1), 1))
	})
	var out []Param
	for len(pieces) > 0 {
		n, complete, extended := 0, true, false
		for n < len(pieces) && bytes.EqualFold(pieces[0].name, pieces[n].name) {
			complete = complete && pieces[n].index == uint32(n)
			extended = extended || pieces[n].extended
			n++
		}
		if complete {
			out = append(out, joined(pieces[:n], extended))
		} else {
			for _, pc := range pieces[:n] {
				out = append(out, Param{pc.fullName(), nonNil(pc.value)})
			}
		}
		pieces = pieces[n:]
	}
	return out
}

func joined(pieces []piece, extended bool) Param {
	p := Param{Name: append([]byte(nil), pieces[0].name...), Value: []byte{}}
	if extended {
		p.Name = append(p.Name, '*')
		if !pieces[0].extended {
			p.Value = append(p.Value, "''"...)
		}
	}
	for _, pc := range pieces {
		if extended && !pc.extended {
			p.Value = append(p.Value, bytes.ReplaceAll(pc.value, []byte("%"), []byte("%25"))...)
		} else {
			p.Value = append(p.Value, pc.value...)
		}
	}
	return p
}

func (pc piece) fullName() []byte {
	b := append([]byte(nil), pc.name...)
	b = append(b, '*')
	b = strconv.AppendUint(b, uint64(pc.index), 10)
	if pc.extended {
		b = append(b, '*')
	}
	return b
}
