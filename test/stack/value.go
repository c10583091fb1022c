package stack

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Value is a parsed item: NIL, a string (quoted, literal or atom) or a list.
type Value struct {
	Str  []byte
	List []Value
	kind byte // 'n', 's', 'l'
}

func (v Value) Text() string { return string(v.Str) }

// String gives one form for all encodings of the same value.
func (v Value) String() string {
	switch v.kind {
	case 'l':
		parts := make([]string, len(v.List))
		for i, e := range v.List {
			parts[i] = e.String()
		}
		return "(" + strings.Join(parts, " ") + ")"
	case 's':
		return strconv.Quote(string(v.Str))
	}
	return "NIL"
}

// ParseFetch gives the items of an untagged FETCH response, or nil for others.
func ParseFetch(l []byte) (map[string]Value, error) {
	i := bytes.Index(l, []byte(" FETCH ("))
	if i < 0 || !bytes.HasPrefix(l, []byte("* ")) {
		return nil, nil
	}
	p := &parser{b: l[i+len(" FETCH "):]}
	v, err := p.value()
	if err != nil {
		return nil, err
	}
	if len(v.List)%2 != 0 {
		return nil, fmt.Errorf("odd number of elements")
	}
	items := map[string]Value{}
	for i := 0; i < len(v.List); i += 2 {
		items[strings.ToUpper(v.List[i].Text())] = v.List[i+1]
	}
	return items, nil
}

type parser struct {
	b []byte
	i int
}

func (p *parser) value() (Value, error) {
	if p.i >= len(p.b) {
		return Value{}, io.ErrUnexpectedEOF
	}
	switch c := p.b[p.i]; c {
	case '(':
		p.i++
		v := Value{kind: 'l'}
		for {
			for p.i < len(p.b) && p.b[p.i] == ' ' {
				p.i++
			}
			if p.i < len(p.b) && p.b[p.i] == ')' {
				p.i++
				return v, nil
			}
			e, err := p.value()
			if err != nil {
				return v, err
			}
			v.List = append(v.List, e)
		}
	case '"':
		v := Value{kind: 's'}
		for p.i++; p.i < len(p.b); p.i++ {
			switch p.b[p.i] {
			case '\\':
				p.i++
				if p.i < len(p.b) {
					v.Str = append(v.Str, p.b[p.i])
				}
			case '"':
				p.i++
				return v, nil
			default:
				v.Str = append(v.Str, p.b[p.i])
			}
		}
		return v, io.ErrUnexpectedEOF
	case '{':
		end := bytes.Index(p.b[p.i:], []byte("}\r\n"))
		if end < 0 {
			return Value{}, io.ErrUnexpectedEOF
		}
		n, err := strconv.Atoi(string(p.b[p.i+1 : p.i+end]))
		start := p.i + end + 3
		if err != nil || start+n > len(p.b) {
			return Value{}, fmt.Errorf("bad literal")
		}
		p.i = start + n
		return Value{kind: 's', Str: p.b[start:p.i]}, nil
	default:
		start, depth := p.i, 0
		for ; p.i < len(p.b); p.i++ {
			c := p.b[p.i]
			if c == '[' {
				depth++
			} else if c == ']' {
				depth--
			} else if depth == 0 && (c == ' ' || c == '(' || c == ')' || c == '\r') {
				break
			}
		}
		if start == p.i {
			return Value{}, fmt.Errorf("unexpected %q at %d", p.b[p.i], p.i)
		}
		s := p.b[start:p.i]
		if strings.EqualFold(string(s), "NIL") {
			return Value{kind: 'n'}, nil
		}
		return Value{kind: 's', Str: s}, nil
	}
}
