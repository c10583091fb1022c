package codec

import (
	"bytes"
	"testing"
)

// FuzzReader reads bytes by a script of operations; what is read by them is
// written as it was.
func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3}, []byte{1, 0, 2, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4})
	f.Add([]byte{4, 5, 6}, []byte{2, 7, 7, 1, 9, 0x40, 0x40})
	f.Add([]byte{5, 5}, append([]byte{0x40, 0x40}, make([]byte, 65)...))
	f.Fuzz(func(t *testing.T, script, b []byte) {
		before := bytes.Clone(b)
		r := NewReader(b)
		var w Writer
		for _, op := range script {
			switch op % 7 {
			case 0:
				w.Uint8(r.Uint8())
			case 1:
				w.Uint16(r.Uint16())
			case 2:
				w.Uint32(r.Uint32())
			case 3:
				w.Uint64(r.Uint64())
			case 4:
				w.Opaque(r.Opaque())
			case 5:
				w.Vector(func() { r.Vector(1<<16, func(r *Reader) { w.Uint8(r.Uint8()) }) })
			case 6:
				var v uint16
				present := r.Optional(func(r *Reader) { v = r.Uint16() })
				w.Optional(present, func() { w.Uint16(v) })
			}
			if r.Err() != nil {
				return
			}
		}
		if used := len(b) - r.Len(); !bytes.Equal(w.Bytes(), b[:used]) {
			t.Fatalf("%x was read and written as %x", b[:used], w.Bytes())
		}
		if !bytes.Equal(before, b) {
			t.Fatal("input was changed")
		}
	})
}
