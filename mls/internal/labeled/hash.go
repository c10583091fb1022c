package labeled

import (
	"crypto"
	"crypto/subtle"
	"encoding/binary"
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// labelPrefix precedes every label but those of RefHash.
const labelPrefix = "MLS 1.0 "

// Hash returns the hash of the concatenation of parts.
func (s *Suite) Hash(parts ...[]byte) []byte {
	if len(parts) == 1 {
		return digest(s.hash, make([]byte, 0, s.Nh), parts[0])
	}
	h := s.hash.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// RefHash is RefHash of RFC 9420 section 5.2. The label is used as it is.
func (s *Suite) RefHash(label string, value []byte) []byte {
	b := make([]byte, 0, len(label)+len(value)+8)
	b = codec.AppendOpaque(b, []byte(label))
	return s.Hash(codec.AppendOpaque(b, value))
}

// MAC returns the suite's HMAC of message.
func (s *Suite) MAC(key, message []byte) []byte { return mac(s.hash, key, message) }

// VerifyMAC compares tag with the MAC of message, in constant time and in its
// full length.
func (s *Suite) VerifyMAC(key, message, tag []byte) bool {
	want := s.MAC(key, message)
	return len(tag) == len(want) && subtle.ConstantTimeCompare(want, tag) == 1
}

// Extract is KDF.Extract, which is HMAC. It never fails.
func (s *Suite) Extract(salt, ikm []byte) ([]byte, error) { return mac(s.hash, salt, ikm), nil }

// hkdfExpand is HKDF-Expand of RFC 5869 for a length of at most 255 hashes.
func hkdfExpand(h crypto.Hash, prk, info []byte, length int) []byte {
	var out, block []byte
	for n := byte(1); len(out) < length; n++ {
		block = mac(h, prk, append(append(block, info...), n))
		out = append(out, block...)
	}
	return out[:length:length]
}

// ExpandWithLabel is ExpandWithLabel of RFC 9420 section 8. It fails if length
// is negative or more than 255 hashes.
func (s *Suite) ExpandWithLabel(secret []byte, label string, context []byte, length int) ([]byte, error) {
	if length < 0 || length > 255*s.Nh || length > 0xffff {
		return nil, fmt.Errorf("expand %q: length %d is out of range", label, length)
	}
	if length > s.Nh || len(label)+len(context) > maxShortMAC/2 {
		return hkdfExpand(s.hash, secret, appendKDFLabel(nil, label, context, length), length), nil
	}
	// HKDF-Expand of one block, which is nearly always enough.
	var m shortMAC
	info := appendKDFLabel(m.begin(s.hash, secret), label, context, length)
	return m.sum(make([]byte, 0, s.Nh), append(info, 1))[:length:length], nil
}

// appendKDFLabel appends KDFLabel of RFC 9420 section 8.
func appendKDFLabel(b []byte, label string, context []byte, length int) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = codec.AppendOpaque(b, []byte(labelPrefix+label))
	return codec.AppendOpaque(b, context)
}

// DeriveSecret is DeriveSecret of RFC 9420 section 8.
func (s *Suite) DeriveSecret(secret []byte, label string) ([]byte, error) {
	return s.ExpandWithLabel(secret, label, nil, s.Nh)
}

// DeriveTreeSecret is DeriveTreeSecret of RFC 9420 section 9.1.
func (s *Suite) DeriveTreeSecret(secret []byte, label string, generation uint32, length int) ([]byte, error) {
	var context [4]byte
	binary.BigEndian.PutUint32(context[:], generation)
	return s.ExpandWithLabel(secret, label, context[:], length)
}
