package mls

import "github.com/cloudmls/gateway/mls/internal/codec"

type marshaler interface{ marshal(w *codec.Writer) }

type unmarshaler interface{ unmarshal(r *codec.Reader) }

// encode returns the encoding of m.
func encode(m marshaler) []byte {
	var w codec.Writer
	m.marshal(&w)
	return w.Bytes()
}

// decode reads all of b into u. What u keeps aliases b.
func decode(b []byte, u unmarshaler) error {
	r := codec.NewReader(b)
	u.unmarshal(r)
	return r.Finish()
}
