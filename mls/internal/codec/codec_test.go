package codec

import (
	"bytes"
	"errors"
	"testing"
)

func TestLengthHeaders(t *testing.T) {
	for _, test := range []struct {
		in   []byte
		want int
		err  error
	}{
		{[]byte{0}, 0, nil},
		{[]byte{0x3f}, 63, nil},
		{[]byte{0x40, 0x40}, 64, nil},
		{[]byte{0x7f, 0xff}, 16383, nil},
		{[]byte{0x80, 0, 0x40, 0}, 16384, nil},
		{[]byte{0x40, 0x3f}, 0, ErrNotMinimal},
		{[]byte{0x80, 0, 0x3f, 0xff}, 0, ErrNotMinimal},
		{[]byte{0xc0}, 0, ErrPrefix},
		{[]byte{0x40}, 0, ErrTruncated},
		{[]byte{0x80, 0, 1}, 0, ErrTruncated},
		{nil, 0, ErrTruncated},
	} {
		r := NewReader(test.in)
		got := r.Length()
		if got != test.want || !errors.Is(r.Err(), test.err) {
			t.Errorf("%x: got %d, %v, want %d, %v", test.in, got, r.Err(), test.want, test.err)
		}
	}
}

func TestWriteAndRead(t *testing.T) {
	for _, n := range []int{0, 1, 63, 64, 16383, 16384, 100000} {
		var w Writer
		w.Uint8(1)
		w.Opaque(make([]byte, n))
		w.Vector(func() { w.Raw(bytes.Repeat([]byte{7}, n)) })
		w.Optional(n > 0, func() { w.Uint64(uint64(n)) })
		r := NewReader(w.Bytes())
		if r.Uint8() != 1 || len(r.Opaque()) != n {
			t.Fatalf("%d: opaque is wrong", n)
		}
		count := 0
		r.Vector(n+1, func(r *Reader) {
			if r.Uint8() == 7 {
				count++
			}
		})
		present := r.Optional(func(r *Reader) {
			if got := r.Uint64(); got != uint64(n) {
				t.Errorf("%d: optional is %d", n, got)
			}
		})
		if err := r.Finish(); err != nil || count != n || present != (n > 0) {
			t.Errorf("%d: read %d elements, present %v, %v", n, count, present, err)
		}
	}
}

func TestReaderLimits(t *testing.T) {
	nested := func(depth int) []byte {
		b := []byte{1}
		for range depth {
			var w Writer
			w.Opaque(b)
			b = w.Bytes()
		}
		return b
	}
	var descend func(r *Reader, depth int)
	descend = func(r *Reader, depth int) {
		if depth == 0 {
			r.Uint8()
			return
		}
		r.Vector(1, func(r *Reader) { descend(r, depth-1) })
	}
	for depth, want := range map[int]error{MaxNesting: nil, MaxNesting + 1: ErrTooDeep} {
		r := NewReader(nested(depth))
		descend(r, depth)
		if !errors.Is(r.Finish(), want) {
			t.Errorf("depth %d: got %v, want %v", depth, r.Err(), want)
		}
	}
	r := NewReader([]byte{2, 1, 1})
	r.Vector(1, func(r *Reader) { r.Uint8() })
	if !errors.Is(r.Err(), ErrTooMany) {
		t.Errorf("too many elements: got %v", r.Err())
	}
	r = NewReader([]byte{2, 1, 1})
	r.Vector(9, func(*Reader) {})
	if r.Err() == nil {
		t.Error("elements of no size were accepted")
	}
	r = NewReader([]byte{2, 1, 1})
	if r.OpaqueMax(1); !errors.Is(r.Err(), ErrTooLong) {
		t.Errorf("long opaque: got %v", r.Err())
	}
	r = NewReader([]byte{2})
	if r.Optional(func(*Reader) {}); !errors.Is(r.Err(), ErrOptional) {
		t.Errorf("presence octet 2: got %v", r.Err())
	}
	r = NewReader([]byte{1, 1})
	if r.Uint8(); !errors.Is(r.Finish(), ErrTrailing) {
		t.Errorf("trailing byte: got %v", r.Err())
	}
	r = NewReader([]byte{0x80, 0xff, 0xff, 0xff, 0})
	if r.Opaque(); !errors.Is(r.Err(), ErrTruncated) {
		t.Errorf("length beyond the input: got %v", r.Err())
	}
}

func TestOctets(t *testing.T) {
	r := NewReader([]byte{1, 2, 3, 4})
	r.Uint8()
	b := r.Octets(func() { r.Uint16() })
	if string(b) != "\x02\x03" || cap(b) != 2 || r.Len() != 1 {
		t.Errorf("got %x with room for %d, %d left", b, cap(b), r.Len())
	}
	if b := r.Octets(func() { r.Uint16() }); b != nil || r.Err() == nil {
		t.Errorf("after an error: got %x, %v", b, r.Err())
	}
}
