package mime

// Part is one entity of a message (RFC 2045 section 2.4): the message itself,
// a body part of a multipart, or the message inside a message/rfc822 part.
// Offsets count octets from the beginning of the message that was parsed. A
// Part is not changed after it was made and safe for concurrent use.
type Part struct {
	// HeaderOffset and HeaderLength delimit the header, with the blank line
	// that ends it where there is one.
	HeaderOffset, HeaderLength int64
	// BodyOffset and BodyLength delimit the body. The line end before a
	// boundary belongs to the boundary, not to the body.
	BodyOffset, BodyLength int64
	// Lines is the number of line ends in the body.
	Lines int64
	// Header holds the octets of the header, blank line included.
	Header []byte
	// Children are the body parts of a multipart in their order, or the one
	// message inside a message/rfc822 part. They lie inside the body, without
	// overlap.
	Children []*Part
	// Multipart says that the part is a multipart with a boundary.
	Multipart bool
	// Message says that the part is a message/rfc822 with the message as its
	// only child.
	Message bool

	// mime says that the Content-* fields count: a body part of a multipart,
	// or a header with MIME-Version or Content-Type.
	mime bool
	// digest says that body parts without Content-Type are messages
	// (multipart/digest, RFC 2046 section 5.1.5).
	digest bool
}

// Size returns the number of octets of header and body together. For the root
// it is the size of the message.
func (p *Part) Size() int64 { return p.HeaderLength + p.BodyLength }

// Find returns the part that an IMAP section number names (RFC 9051 section
// 6.4.5), or nil. The empty path is p itself, which should be a message. Parts
// of a multipart count from 1; a message that is not a multipart has part 1,
// which is itself. A number behind a message/rfc822 part counts within the
// message it holds.
func (p *Part) Find(path []int) *Part {
	cur := p
	for depth, n := range path {
		entity := cur // whose parts n counts
		switch {
		case depth == 0:
		case cur.Message && len(cur.Children) == 1:
			entity = cur.Children[0]
		case !cur.Multipart:
			return nil
		}
		switch {
		case entity.Multipart && n >= 1 && n <= len(entity.Children):
			cur = entity.Children[n-1]
		case !entity.Multipart && n == 1:
			cur = entity
		default:
			return nil
		}
	}
	return cur
}

// Walk calls fn for p and every part below it, parents first, with the number
// of levels below p.
func (p *Part) Walk(fn func(part *Part, depth int)) { p.walk(fn, 0) }

func (p *Part) walk(fn func(*Part, int), depth int) {
	fn(p, depth)
	for _, c := range p.Children {
		c.walk(fn, depth+1)
	}
}

// WithPrefix returns the tree of the message that has prefix, complete header
// fields with their line ends, before the first octet of p. The tree shares
// what did not change with p. The prefix must not hold MIME-Version or
// Content-* fields.
func (p *Part) WithPrefix(prefix []byte) *Part {
	n := int64(len(prefix))
	root := p.shift(n)
	root.HeaderOffset -= n
	root.HeaderLength += n
	root.Header = append(append(make([]byte, 0, len(prefix)+len(p.Header)), prefix...), p.Header...)
	return root
}

func (p *Part) shift(n int64) *Part {
	c := *p
	c.HeaderOffset += n
	c.BodyOffset += n
	if p.Children != nil {
		c.Children = make([]*Part, len(p.Children))
		for i, child := range p.Children {
			c.Children[i] = child.shift(n)
		}
	}
	return &c
}
