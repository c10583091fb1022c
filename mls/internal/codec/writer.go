package codec

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Writer appends encodings to a buffer. The zero value is ready for use. It is
// not safe for concurrent use.
type Writer struct{ b []byte }

// Bytes returns what was written. It aliases the Writer's buffer.
func (w *Writer) Bytes() []byte { return w.b }

// Grow makes room for n more bytes.
func (w *Writer) Grow(n int) { w.b = slices.Grow(w.b, n) }

// Uint8 writes a uint8.
func (w *Writer) Uint8(v uint8) { w.b = append(w.b, v) }

// Uint16 writes a uint16.
func (w *Writer) Uint16(v uint16) { w.b = binary.BigEndian.AppendUint16(w.b, v) }

// Uint32 writes a uint32.
func (w *Writer) Uint32(v uint32) { w.b = binary.BigEndian.AppendUint32(w.b, v) }

// Uint64 writes a uint64.
func (w *Writer) Uint64(v uint64) { w.b = binary.BigEndian.AppendUint64(w.b, v) }

// Raw writes b without a length.
func (w *Writer) Raw(b []byte) { w.b = append(w.b, b...) }

// Opaque writes b as a vector of bytes.
func (w *Writer) Opaque(b []byte) { w.b = AppendOpaque(w.b, b) }

// AppendOpaque appends v as a vector of bytes to b.
func AppendOpaque(b, v []byte) []byte { return append(AppendLength(b, len(v)), v...) }

// Vector writes what content writes as a vector.
func (w *Writer) Vector(content func()) {
	start := len(w.b)
	content()
	var header [4]byte
	h := AppendLength(header[:0], len(w.b)-start)
	w.b = append(w.b, h...)
	copy(w.b[start+len(h):], w.b[start:len(w.b)-len(h)])
	copy(w.b[start:], h)
}

// Optional writes a presence octet and, if present, calls value.
func (w *Writer) Optional(present bool, value func()) {
	if !present {
		w.Uint8(0)
		return
	}
	w.Uint8(1)
	value()
}

// AppendLength appends the shortest length header for n (RFC 9420 section
// 2.1.2). Callers build structures whose size the API has bounded, so a length
// beyond 30 bits is a programming error and not something input can cause.
func AppendLength(b []byte, n int) []byte {
	switch {
	case n < 1<<6:
		return append(b, byte(n))
	case n < 1<<14:
		return append(b, 0x40|byte(n>>8), byte(n))
	case n < 1<<30:
		return append(b, 0x80|byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	default:
		panic(fmt.Sprintf("mls: vector of %d bytes cannot be encoded", n))
	}
}
