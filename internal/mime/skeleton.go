package mime

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrSkeleton is wrapped by every error of ParseSkeleton but limit errors.
var ErrSkeleton = errors.New("malformed part table")

// ErrMismatch is wrapped by the errors of MatchSkeleton.
var ErrMismatch = errors.New("part table disagrees with the content")

// maxMessage bounds the sizes in a part table, far from any overflow.
const maxMessage = 1 << 40

// partFixed is the length of a part's entry without its header: three 64-bit
// and two 32-bit numbers.
const partFixed = 3*8 + 2*4

// MarshalSkeleton returns the tree with all headers in a form that
// ParseSkeleton reads: all that ENVELOPE, BODYSTRUCTURE, sizes and headers
// need. For each part, parents first, numbers big endian:
//
//	uint64 octets between the beginning of the parent's body and the part
//	uint64 octets of the body
//	uint64 line ends in the body
//	uint32 number of children
//	uint32 octets of the header, followed by the header
func (p *Part) MarshalSkeleton() []byte { return p.appendSkeleton(nil, 0) }

func (p *Part) appendSkeleton(b []byte, base int64) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(p.HeaderOffset-base))
	b = binary.BigEndian.AppendUint64(b, uint64(p.BodyLength))
	b = binary.BigEndian.AppendUint64(b, uint64(p.Lines))
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.Children)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(p.Header)))
	b = append(b, p.Header...)
	for _, c := range p.Children {
		b = c.appendSkeleton(b, p.BodyOffset)
	}
	return b
}

// ParseSkeleton reads what MarshalSkeleton wrote. It refuses tables that no
// message has: parts outside their parent or overlapping, parts below what is
// neither a multipart nor a message, trailing octets. Whether the table is that
// of a given message only MatchSkeleton can tell.
func ParseSkeleton(b []byte, l Limits) (*Part, error) {
	s := skeletonReader{b: b, limits: l.withDefaults()}
	root, err := s.part(nil, 0, 0)
	if err != nil {
		return nil, err
	}
	if len(s.b) != 0 {
		return nil, fmt.Errorf("%w: trailing octets", ErrSkeleton)
	}
	return root, nil
}

type skeletonReader struct {
	b           []byte
	limits      Limits
	parts       int
	headerBytes int
}

// part reads one part that must not begin before octet from.
func (s *skeletonReader) part(parent *Part, from int64, depth int) (*Part, error) {
	if depth > s.limits.Depth {
		return nil, &LimitError{What: "levels of parts", Max: s.limits.Depth}
	}
	if s.parts++; s.parts > s.limits.Parts {
		return nil, &LimitError{What: "parts", Max: s.limits.Parts}
	}
	if len(s.b) < partFixed {
		return nil, fmt.Errorf("%w: too short", ErrSkeleton)
	}
	offset := binary.BigEndian.Uint64(s.b)
	bodyLength := binary.BigEndian.Uint64(s.b[8:])
	lines := binary.BigEndian.Uint64(s.b[16:])
	children := binary.BigEndian.Uint32(s.b[24:])
	headerLength := binary.BigEndian.Uint32(s.b[28:])
	s.b = s.b[partFixed:]
	if offset > maxMessage || bodyLength > maxMessage || lines > bodyLength || uint64(headerLength) > uint64(len(s.b)) {
		return nil, fmt.Errorf("%w: impossible size", ErrSkeleton)
	}
	p := &Part{HeaderOffset: int64(offset), BodyLength: int64(bodyLength), Lines: int64(lines)}
	if parent != nil {
		p.HeaderOffset += parent.BodyOffset
	}
	p.HeaderLength = int64(headerLength)
	p.BodyOffset = p.HeaderOffset + p.HeaderLength
	if err := p.checkPlace(parent, from); err != nil {
		return nil, err
	}
	if err := s.header(p, parent, int(headerLength)); err != nil {
		return nil, err
	}
	return p, s.children(p, children, depth)
}

func (p *Part) checkPlace(parent *Part, from int64) error {
	switch {
	case parent == nil && p.HeaderOffset != 0:
		return fmt.Errorf("%w: message does not begin at its beginning", ErrSkeleton)
	case p.HeaderOffset < from:
		return fmt.Errorf("%w: parts overlap", ErrSkeleton)
	case parent != nil && p.BodyOffset+p.BodyLength > parent.BodyOffset+parent.BodyLength:
		return fmt.Errorf("%w: part outside its parent", ErrSkeleton)
	}
	return nil
}

func (s *skeletonReader) header(p, parent *Part, n int) error {
	if s.headerBytes += n; s.headerBytes > s.limits.HeaderBytes {
		return &LimitError{What: "header octets", Max: s.limits.HeaderBytes}
	}
	p.Header = bytes.Clone(s.b[:n])
	s.b = s.b[n:]
	if bytes.Count(p.Header, []byte("\n")) > s.limits.HeaderLines {
		return &LimitError{What: "header lines", Max: s.limits.HeaderLines}
	}
	p.classify(parent)
	return nil
}

func (s *skeletonReader) children(p *Part, n uint32, depth int) error {
	switch {
	case p.Message && n != 1:
		return fmt.Errorf("%w: message part without its message", ErrSkeleton)
	case n > 0 && !p.Message && !p.Multipart:
		return fmt.Errorf("%w: parts below a part that has none", ErrSkeleton)
	case uint64(n) > uint64(s.limits.Parts):
		return &LimitError{What: "parts", Max: s.limits.Parts}
	}
	from := p.BodyOffset
	for range n {
		c, err := s.part(p, from, depth+1)
		if err != nil {
			return err
		}
		p.Children = append(p.Children, c)
		from = c.BodyOffset + c.BodyLength
	}
	return nil
}

// MatchSkeleton compares two trees of one message, say the part table that came
// with it and the one its content has. It returns nil if they are equal in
// every offset, count and header octet, else an error that wraps ErrMismatch.
func MatchSkeleton(a, b *Part) error {
	switch {
	case a.HeaderOffset != b.HeaderOffset, a.HeaderLength != b.HeaderLength:
		return fmt.Errorf("%w: place of a header", ErrMismatch)
	case a.BodyOffset != b.BodyOffset, a.BodyLength != b.BodyLength:
		return fmt.Errorf("%w: place of a body", ErrMismatch)
	case a.Lines != b.Lines:
		return fmt.Errorf("%w: number of lines", ErrMismatch)
	case !bytes.Equal(a.Header, b.Header):
		return fmt.Errorf("%w: header octets", ErrMismatch)
	case len(a.Children) != len(b.Children):
		return fmt.Errorf("%w: number of parts", ErrMismatch)
	}
	for i := range a.Children {
		if err := MatchSkeleton(a.Children[i], b.Children[i]); err != nil {
			return err
		}
	}
	return nil
}
