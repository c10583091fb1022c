package mls

import "github.com/cloudmls/gateway/mls/internal/codec"

type marshaler interface{ marshal(w *codec.Writer) }

type unmarshaler interface{ unmarshal(r *codec.Reader) }

// usualSize is room for most structures, in bytes, so that encoding one takes
// memory once.
const usualSize = 320

// encode returns the encoding of m.
func encode(m marshaler) []byte {
	var w codec.Writer
	w.Grow(usualSize)
	m.marshal(&w)
	return w.Bytes()
}

// decode reads all of b into u. What u keeps aliases b.
func decode(b []byte, u unmarshaler) error {
	r := codec.NewReader(b)
	u.unmarshal(r)
	return r.Finish()
}
