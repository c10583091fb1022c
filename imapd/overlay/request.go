package overlay

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/cloudmls/gateway/imapd/policy"
	"github.com/cloudmls/gateway/imapd/wire"
)

const (
	// maxItems bounds the items of one FETCH command, maxFields the names in
	// one HEADER.FIELDS.
	maxItems  = 100
	maxFields = 500
	// maxPath bounds the levels of a section's part number.
	maxPath = 32
)

// Request is a FETCH command's arguments.
type Request struct {
	// Set is the message set as the client wrote it.
	Set []byte
	// Items are the items in the client's order, macros expanded.
	Items []Item
	// ItemText is the items as the client wrote them, literals replaced by
	// quoted strings.
	ItemText []byte
	// Modifiers is " (...)" as the client wrote it, or empty (RFC 4466).
	Modifiers []byte
}

// Item is one FETCH item that a client asks for.
type Item struct {
	// Name is in capitals, without section.
	Name string
	// Section is set for BODY[...] and BODY.PEEK[...].
	Section *Section
	// Text is the whole item for the provider.
	Text []byte
}

// Class says who answers the item for a sealed message.
func (it *Item) Class() policy.ItemClass { return policy.FetchItem(it.Name) }

// SetsSeen tells whether fetching the item sets \Seen (RFC 9051 section 6.4.5).
func (it *Item) SetsSeen() bool {
	switch it.Name {
	case "RFC822", "RFC822.TEXT":
		return true
	case "BODY":
		return it.Section != nil
	}
	return false
}

// Section names a piece of a message.
type Section struct {
	Path []int
	// Spec is "", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME.
	Spec   string
	Fields []string
	// Partial tells that only Count octets from Offset are wanted.
	Partial       bool
	Offset, Count int64
}

// Not tells that Fields are those that are not wanted.
func (s *Section) Not() bool { return s.Spec == "HEADER.FIELDS.NOT" }

// label returns the section as it stands in requests and responses.
func (s *Section) label(dst []byte) []byte {
	dst = append(dst, '[')
	for i, n := range s.Path {
		if i > 0 {
			dst = append(dst, '.')
		}
		dst = strconv.AppendInt(dst, int64(n), 10)
	}
	if s.Spec != "" {
		if len(s.Path) > 0 {
			dst = append(dst, '.')
		}
		dst = append(dst, s.Spec...)
	}
	if strings.HasPrefix(s.Spec, "HEADER.FIELDS") {
		dst = append(dst, " ("...)
		for i, f := range s.Fields {
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = wire.AppendAString(dst, []byte(f))
		}
		dst = append(dst, ')')
	}
	return append(dst, ']')
}

// ParseRequest reads the arguments of FETCH or UID FETCH: everything behind
// the command's name and its space.
func ParseRequest(args []byte) (*Request, error) {
	sc := wire.NewScanner(args)
	set, ok := sc.While(func(c byte) bool { return c > ' ' && c < 0x7f && c != '(' })
	if !ok || !sc.SP() {
		return nil, wire.ErrSyntax
	}
	req := &Request{Set: set}
	start := sc.Pos()
	if sc.Byte('(') {
		for !sc.Byte(')') {
			if len(req.Items) > 0 && !sc.SP() {
				return nil, wire.ErrSyntax
			}
			it, err := parseItem(sc)
			if err != nil {
				return nil, err
			}
			if len(req.Items) >= maxItems {
				return nil, wire.ErrTooLong
			}
			req.Items = append(req.Items, it)
		}
	} else {
		it, err := parseItem(sc)
		if err != nil {
			return nil, err
		}
		if macro := policy.FetchMacro(it.Name); macro != nil && it.Section == nil {
			for _, name := range macro {
				req.Items = append(req.Items, Item{Name: name, Text: []byte(name)})
			}
		} else {
			req.Items = []Item{it}
		}
	}
	req.ItemText = args[start:sc.Pos()]
	if bytes.ContainsAny(req.ItemText, "{\r\n") {
		req.ItemText = itemList(req.Items)
	}
	if rest := sc.Rest(); !sc.End() {
		if !sc.SP() || sc.Peek() != '(' {
			return nil, wire.ErrSyntax
		}
		v, err := sc.Value()
		if err != nil || !sc.End() {
			return nil, wire.ErrSyntax
		}
		req.Modifiers = rest[:1+len(v)]
	}
	return req, nil
}

func itemList(items []Item) []byte {
	out := []byte{'('}
	for i, it := range items {
		if i > 0 {
			out = append(out, ' ')
		}
		out = append(out, it.Text...)
	}
	return append(out, ')')
}

func isItemByte(c byte) bool { return wire.IsAtomByte(c) && c != '[' && c != ']' && c != '<' }

func parseItem(sc *wire.Scanner) (Item, error) {
	name, ok := sc.While(isItemByte)
	if !ok {
		return Item{}, wire.ErrSyntax
	}
	it := Item{Name: strings.ToUpper(string(name)), Text: name}
	if sc.Peek() != '[' {
		return it, nil
	}
	if it.Name != "BODY" && it.Name != "BODY.PEEK" {
		return parseForeignItem(sc, it)
	}
	sc.Byte('[')
	s, err := parseSection(sc)
	if err != nil {
		return Item{}, err
	}
	if !sc.Byte(']') {
		return Item{}, wire.ErrSyntax
	}
	it.Section = s
	it.Text = s.label([]byte(it.Name))
	if sc.Byte('<') {
		off, ok1 := sc.Number()
		dot := sc.Byte('.')
		count, ok2 := sc.Number()
		if !ok1 || !dot || !ok2 || count == 0 || !sc.Byte('>') || off > 1<<62 || count > 1<<62 {
			return Item{}, wire.ErrSyntax
		}
		s.Partial, s.Offset, s.Count = true, int64(off), int64(count)
		it.Text = append(it.Text, '<')
		it.Text = strconv.AppendInt(it.Text, s.Offset, 10)
		it.Text = append(it.Text, '.')
		it.Text = strconv.AppendInt(it.Text, s.Count, 10)
		it.Text = append(it.Text, '>')
	}
	return it, nil
}

// parseForeignItem reads NAME[...]<...> of an item that is not ours to know.
func parseForeignItem(sc *wire.Scanner, it Item) (Item, error) {
	text := bytes.Clone(it.Text)
	inner, ok := sc.While(func(c byte) bool { return c != ']' && c != '\r' && c != '{' })
	if !ok || !sc.Byte(']') {
		return Item{}, wire.ErrSyntax
	}
	text = append(append(text, inner...), ']')
	if sc.Peek() == '<' {
		p, _ := sc.While(func(c byte) bool { return c != ' ' && c != ')' && c > ' ' })
		text = append(text, p...)
	}
	it.Text = text
	return it, nil
}

func parseSection(sc *wire.Scanner) (*Section, error) {
	s := &Section{}
	for {
		if c := sc.Peek(); c < '0' || c > '9' {
			break
		}
		n, ok := sc.Number()
		if !ok || n == 0 || n > 1<<20 || len(s.Path) >= maxPath {
			return nil, wire.ErrSyntax
		}
		s.Path = append(s.Path, int(n))
		if !sc.Byte('.') {
			return s, nil
		}
	}
	if sc.Peek() == ']' {
		if len(s.Path) > 0 {
			return nil, wire.ErrSyntax // "1.]"
		}
		return s, nil
	}
	spec, _ := sc.While(isItemByte)
	s.Spec = strings.ToUpper(string(spec))
	switch s.Spec {
	case "HEADER", "TEXT":
		return s, nil
	case "MIME":
		if len(s.Path) == 0 {
			return nil, wire.ErrSyntax
		}
		return s, nil
	case "HEADER.FIELDS", "HEADER.FIELDS.NOT":
	default:
		return nil, wire.ErrSyntax
	}
	if !sc.SP() || !sc.Byte('(') {
		return nil, wire.ErrSyntax
	}
	for !sc.Byte(')') {
		if len(s.Fields) > 0 && !sc.SP() {
			return nil, wire.ErrSyntax
		}
		f, ok := sc.AString()
		if !ok || len(s.Fields) >= maxFields || !wire.Quotable(f) {
			return nil, wire.ErrSyntax
		}
		s.Fields = append(s.Fields, string(f))
	}
	return s, nil
}
