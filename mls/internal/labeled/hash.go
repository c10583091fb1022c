package labeled

import (
	"crypto"
	"crypto/hmac"
	"crypto/subtle"
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// labelPrefix precedes every label but those of RefHash.
const labelPrefix = "MLS 1.0 "

// Hash returns the hash of the concatenation of parts.
func (s *Suite) Hash(parts ...[]byte) []byte {
	h := s.hash.New()
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// RefHash is RefHash of RFC 9420 section 5.2. The label is used as it is.
func (s *Suite) RefHash(label string, value []byte) []byte {
	var w codec.Writer
	w.Opaque([]byte(label))
	w.Opaque(value)
	return s.Hash(w.Bytes())
}

// MAC returns the suite's HMAC of message.
func (s *Suite) MAC(key, message []byte) []byte {
	m := hmac.New(s.hash.New, key)
	m.Write(message)
	return m.Sum(nil)
}

// VerifyMAC compares tag with the MAC of message, in constant time and in its
// full length.
func (s *Suite) VerifyMAC(key, message, tag []byte) bool {
	want := s.MAC(key, message)
	return len(tag) == len(want) && subtle.ConstantTimeCompare(want, tag) == 1
}

// Extract is KDF.Extract. It never fails.
func (s *Suite) Extract(salt, ikm []byte) ([]byte, error) { return hkdfExtract(s.hash, salt, ikm), nil }

// hkdfExtract is HKDF-Extract of RFC 5869.
func hkdfExtract(h crypto.Hash, salt, ikm []byte) []byte {
	m := hmac.New(h.New, salt)
	m.Write(ikm)
	return m.Sum(nil)
}

// hkdfExpand is HKDF-Expand of RFC 5869 for a length of at most 255 hashes.
func hkdfExpand(h crypto.Hash, prk, info []byte, length int) []byte {
	m := hmac.New(h.New, prk)
	out := make([]byte, 0, length+h.Size())
	var block []byte
	for n := byte(1); len(out) < length; n++ {
		if n > 1 {
			m.Reset()
		}
		m.Write(block)
		m.Write(info)
		m.Write([]byte{n})
		at := len(out)
		out = m.Sum(out)
		block = out[at:]
	}
	return out[:length:length]
}

// ExpandWithLabel is ExpandWithLabel of RFC 9420 section 8. It fails if length
// is negative or more than 255 hashes.
func (s *Suite) ExpandWithLabel(secret []byte, label string, context []byte, length int) ([]byte, error) {
	if length < 0 || length > 255*s.Nh || length > 0xffff {
		return nil, fmt.Errorf("expand %q: length %d is out of range", label, length)
	}
	var w codec.Writer
	w.Uint16(uint16(length))
	w.Opaque([]byte(labelPrefix + label))
	w.Opaque(context)
	return hkdfExpand(s.hash, secret, w.Bytes(), length), nil
}

// DeriveSecret is DeriveSecret of RFC 9420 section 8.
func (s *Suite) DeriveSecret(secret []byte, label string) ([]byte, error) {
	return s.ExpandWithLabel(secret, label, nil, s.Nh)
}

// DeriveTreeSecret is DeriveTreeSecret of RFC 9420 section 9.1.
func (s *Suite) DeriveTreeSecret(secret []byte, label string, generation uint32, length int) ([]byte, error) {
	var w codec.Writer
	w.Uint32(generation)
	return s.ExpandWithLabel(secret, label, w.Bytes(), length)
}
