package codec

import "encoding/binary"

// Reader decodes from a byte slice. Slices it returns alias the input. It is
// not safe for concurrent use.
type Reader struct {
	b     []byte
	depth int
	err   error
}

// NewReader returns a Reader over b, which it never writes to.
func NewReader(b []byte) *Reader { return &Reader{b: b} }

// Err returns the first error.
func (r *Reader) Err() error { return r.err }

// Fail makes err the Reader's error unless there is one already.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// Finish returns the first error, or ErrTrailing if input is left.
func (r *Reader) Finish() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = ErrTrailing
	}
	return r.err
}

// Len returns the number of bytes left.
func (r *Reader) Len() int { return len(r.b) }

// Rest returns and consumes everything that is left.
func (r *Reader) Rest() []byte { return r.Raw(len(r.b)) }

// Raw returns and consumes n bytes, or nil if there are fewer.
func (r *Reader) Raw(n int) []byte {
	if r.err != nil {
		return nil
	}
	if n < 0 || n > len(r.b) {
		r.Fail(ErrTruncated)
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// Octets returns what read consumes, aliasing the input; nil if there is an
// error.
func (r *Reader) Octets(read func()) []byte {
	before := r.b
	read()
	if r.err != nil {
		return nil
	}
	n := len(before) - len(r.b)
	return before[:n:n]
}

// Uint8 reads a uint8.
func (r *Reader) Uint8() uint8 {
	if b := r.Raw(1); b != nil {
		return b[0]
	}
	return 0
}

// Uint16 reads a uint16.
func (r *Reader) Uint16() uint16 {
	if b := r.Raw(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// Uint32 reads a uint32.
func (r *Reader) Uint32() uint32 {
	if b := r.Raw(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Uint64 reads a uint64.
func (r *Reader) Uint64() uint64 {
	if b := r.Raw(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// Length reads the length header of a vector (RFC 9420 section 2.1.2). The
// shortest form is required and the prefix 11 is refused.
func (r *Reader) Length() int {
	first := r.Uint8()
	if r.err != nil {
		return 0
	}
	v := uint32(first & 0x3f)
	var least uint32
	switch first >> 6 {
	case 0:
		return int(v)
	case 1:
		v = v<<8 | uint32(r.Uint8())
		least = 1 << 6
	case 2:
		rest := r.Raw(3)
		if rest == nil {
			return 0
		}
		v = v<<24 | uint32(rest[0])<<16 | uint32(rest[1])<<8 | uint32(rest[2])
		least = 1 << 14
	default:
		r.Fail(ErrPrefix)
		return 0
	}
	if r.err == nil && v < least {
		r.Fail(ErrNotMinimal)
		return 0
	}
	return int(v)
}

// Opaque reads a vector of bytes of at most MaxVector.
func (r *Reader) Opaque() []byte { return r.OpaqueMax(MaxVector) }

// OpaqueMax reads a vector of bytes of at most max. It never returns nil
// unless the Reader has an error.
func (r *Reader) OpaqueMax(max int) []byte {
	// Nearly always it is short and all there. A Reader with an error has no
	// input left.
	if len(r.b) > 0 && r.b[0] < 1<<6 {
		if n := 1 + int(r.b[0]); n <= len(r.b) && n <= 1+max {
			v := r.b[1:n:n]
			r.b = r.b[n:]
			return v
		}
	}
	n := r.Length()
	if r.err != nil {
		return nil
	}
	if n > max || n > MaxVector {
		r.Fail(ErrTooLong)
		return nil
	}
	return r.Raw(n)
}

// Vector reads a vector of structures: element is called until the vector is
// used up, at most max times. An element must consume input.
func (r *Reader) Vector(max int, element func(*Reader)) {
	b := r.Opaque()
	if r.err != nil {
		return
	}
	if r.depth+1 > MaxNesting {
		r.Fail(ErrTooDeep)
		return
	}
	sub := &Reader{b: b, depth: r.depth + 1}
	for n := 0; sub.err == nil && len(sub.b) > 0; n++ {
		if n >= max {
			r.Fail(ErrTooMany)
			return
		}
		before := len(sub.b)
		element(sub)
		if sub.err == nil && len(sub.b) == before {
			sub.Fail(ErrTruncated)
		}
	}
	if sub.err != nil {
		r.Fail(sub.err)
	}
}

// Optional reads a presence octet and, if it is 1, calls value.
func (r *Reader) Optional(value func(*Reader)) (present bool) {
	switch r.Uint8() {
	case 0:
		return false
	case 1:
		if r.err == nil {
			value(r)
		}
		return r.err == nil
	default:
		r.Fail(ErrOptional)
		return false
	}
}
