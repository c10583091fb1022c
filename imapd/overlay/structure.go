package overlay

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/cloudmls/gateway/imapd/wire"
)

// ControlType is the media type of the part that makes a message sealed.
const ControlType = "application/vnd.cloudmls.control"

const (
	// maxDepth is how deep our parts are looked for: relays turn
	// multipart/encrypted into multipart/mixed and put it inside another one,
	// with their footers.
	maxDepth = 2
	// maxParts bounds the parts of one BODYSTRUCTURE that are looked at.
	maxParts = 500
	// MaxControl bounds the control part, encoded. A control record grows by
	// 10 KB per 20 MB of message.
	MaxControl = 4 << 20
	// emptyBulk is the size up to which a bulk part counts as empty: it may
	// hold a blank line or two.
	emptyBulk = 4
)

// Layout says where in a stored message the two sealed parts are. The zero value
// is that of a message which says in its root that it is sealed, and lacks them.
type Layout struct {
	// Control and Bulk are IMAP part numbers such as "1" or "2.1".
	Control, Bulk string
	// BulkOctets is the size of the encoded bulk part.
	BulkOctets int64
	// BulkEncoding is its Content-Transfer-Encoding in lower case.
	BulkEncoding string
}

// HasBulk tells whether the bulk part holds anything.
func (l Layout) HasBulk() bool { return l.BulkOctets > emptyBulk }

// Complete tells whether the sealed parts are there.
func (l Layout) Complete() bool { return l.Control != "" }

// incomplete is the text form of the zero Layout.
const incomplete = "incomplete"

// String returns the form that ParseLayout reads.
func (l Layout) String() string {
	if !l.Complete() {
		return incomplete
	}
	return fmt.Sprintf("%s %s %d %s", l.Control, l.Bulk, l.BulkOctets, l.BulkEncoding)
}

// ParseLayout reads what String wrote.
func ParseLayout(s string) (Layout, error) {
	if s == incomplete {
		return Layout{}, nil
	}
	f := strings.Split(s, " ")
	if len(f) != 4 || !isPath(f[0]) || !isPath(f[1]) {
		return Layout{}, fmt.Errorf("parse layout: %w", wire.ErrSyntax)
	}
	n, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil || n < 0 {
		return Layout{}, fmt.Errorf("parse layout size: %w", wire.ErrSyntax)
	}
	return Layout{Control: f[0], Bulk: f[1], BulkOctets: n, BulkEncoding: f[3]}, nil
}

func isPath(s string) bool {
	if s == "" {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if n, err := strconv.ParseUint(part, 10, 16); err != nil || n == 0 {
			return false
		}
	}
	return true
}

// Locate finds the sealed parts in the value of a BODYSTRUCTURE item: siblings
// in a multipart, the control part before an application/octet-stream, at most
// maxDepth levels down, never inside a message/rfc822. A root that is
// multipart/encrypted of our protocol without them, a message that was cut off
// say, gives an incomplete Layout. false means that the message is a plain one,
// or that the structure cannot be understood.
func Locate(bodyStructure []byte) (Layout, bool) {
	sc := wire.NewScanner(bodyStructure)
	p := structureParser{sc: sc}
	root, err := p.part(0)
	if err != nil || !sc.End() {
		return Layout{}, false
	}
	l, ok := root.locate("", 0)
	return l, ok || root.declared
}

// node is what Locate needs to know of one part.
type node struct {
	mediaType string // lower case; "" for a multipart
	encoding  string
	octets    int64
	children  []*node
	// declared: a multipart/encrypted of our protocol (RFC 1847).
	declared bool
}

func (n *node) locate(path string, depth int) (Layout, bool) {
	if len(n.children) == 0 || depth >= maxDepth {
		return Layout{}, false
	}
	control := -1
	for i, c := range n.children {
		switch {
		case c.mediaType == ControlType && control < 0:
			if c.octets > MaxControl {
				return Layout{}, false
			}
			control = i
		case c.mediaType == "application/octet-stream" && control >= 0:
			return Layout{
				Control:      join(path, control+1),
				Bulk:         join(path, i+1),
				BulkOctets:   c.octets,
				BulkEncoding: c.encoding,
			}, true
		}
	}
	for i, c := range n.children {
		if l, ok := c.locate(join(path, i+1), depth+1); ok {
			return l, true
		}
	}
	return Layout{}, false
}

func join(path string, n int) string {
	if path == "" {
		return strconv.Itoa(n)
	}
	return path + "." + strconv.Itoa(n)
}

type structureParser struct {
	sc    *wire.Scanner
	parts int
}

// part reads one body structure. Of a multipart it keeps the children, of
// others type, encoding and size; the rest is skipped by form alone, because
// providers differ there.
func (p *structureParser) part(depth int) (*node, error) {
	p.parts++
	if p.parts > maxParts || depth > 2*maxDepth+2 {
		// Deeper than anything looked for: skip it whole.
		if _, err := p.sc.Value(); err != nil {
			return nil, err
		}
		return &node{}, nil
	}
	if !p.sc.Byte('(') {
		return nil, wire.ErrSyntax
	}
	n := &node{}
	if p.sc.Peek() == '(' {
		for p.sc.Peek() == '(' {
			c, err := p.part(depth + 1)
			if err != nil {
				return nil, err
			}
			n.children = append(n.children, c)
			p.sc.SP() // some providers put spaces between parts
		}
		n.declared = p.declared()
	} else if err := p.single(n); err != nil {
		return nil, err
	}
	for !p.sc.Byte(')') {
		if p.sc.SP() {
			continue
		}
		if _, err := p.sc.Value(); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// declared reads a multipart's subtype and, where it is encrypted, whether its
// protocol parameter is ours.
func (p *structureParser) declared() bool {
	sub, err := p.sc.Value()
	if err != nil {
		return false // and the next value fails as well
	}
	name, ok := wire.NewScanner(sub).NString()
	if !ok || !strings.EqualFold(string(name), "encrypted") || !p.sc.SP() {
		return false
	}
	params, err := p.sc.Value()
	if err != nil {
		return false
	}
	sc := wire.NewScanner(params)
	for ok = sc.Byte('('); ok && !sc.Byte(')'); sc.SP() {
		var key, v []byte
		if key, ok = sc.NString(); !ok {
			break
		}
		sc.SP()
		v, ok = sc.NString()
		if strings.EqualFold(string(key), "protocol") && strings.EqualFold(string(v), ControlType) {
			return true
		}
	}
	return false
}

// single reads type, subtype, params, id, description, encoding and octets.
func (p *structureParser) single(n *node) error {
	typ, ok1 := p.sc.NString()
	p.sc.SP()
	sub, ok2 := p.sc.NString()
	if !ok1 || !ok2 {
		return wire.ErrSyntax
	}
	n.mediaType = string(bytes.ToLower(typ)) + "/" + string(bytes.ToLower(sub))
	for range 3 {
		if !p.sc.SP() {
			return nil
		}
		if _, err := p.sc.Value(); err != nil {
			return err
		}
	}
	if !p.sc.SP() {
		return nil
	}
	enc, ok := p.sc.NString()
	if !ok || !p.sc.SP() {
		return nil
	}
	n.encoding = normalEncoding(enc)
	if octets, ok := p.sc.Number(); ok {
		n.octets = int64(octets)
		return nil
	}
	return nil
}

// normalEncoding returns a transfer encoding in lower case, "7bit" for what is
// missing or cannot be a token.
func normalEncoding(b []byte) string {
	b = bytes.ToLower(bytes.TrimSpace(b))
	if len(b) == 0 || len(b) > 32 || bytes.ContainsAny(b, " \t\r\n") {
		return "7bit"
	}
	return string(b)
}
