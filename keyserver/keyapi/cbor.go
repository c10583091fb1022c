package keyapi

import "errors"

// In CBOR an object id is a byte string of 32 octets. The methods are those
// that encoders for Go look for; they need none.

// cborObjectID is the head of such a byte string (RFC 8949 section 3.1).
var cborObjectID = [2]byte{0x58, 32}

// MarshalCBOR gives a byte string of 32 octets.
func (id ObjectID) MarshalCBOR() ([]byte, error) {
	return append(cborObjectID[:], id[:]...), nil
}

// UnmarshalCBOR accepts exactly that, in its shortest form.
func (id *ObjectID) UnmarshalCBOR(b []byte) error {
	if len(b) != len(cborObjectID)+len(id) || [2]byte(b) != cborObjectID {
		return errors.New("object id: want a byte string of 32 octets")
	}
	copy(id[:], b[2:])
	return nil
}
