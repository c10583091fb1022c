package labeled

import (
	"crypto"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
)

// digest appends the hash of data to out. Unlike a hash.Hash it takes nothing
// from the heap.
func digest(h crypto.Hash, out, data []byte) []byte {
	switch h {
	case crypto.SHA256:
		sum := sha256.Sum256(data)
		return append(out, sum[:]...)
	case crypto.SHA384:
		sum := sha512.Sum384(data)
		return append(out, sum[:]...)
	default: // the suites have no others
		sum := sha512.Sum512(data)
		return append(out, sum[:]...)
	}
}

// blockSize is that of a hash, in bytes.
func blockSize(h crypto.Hash) int {
	if h == crypto.SHA256 {
		return sha256.BlockSize
	}
	return sha512.BlockSize
}

// maxShortMAC is the longest message of a shortMAC, in bytes: more than what is
// expanded with a label, but for a GroupContext with large extensions.
const maxShortMAC = 384

// shortMAC is HMAC (RFC 2104) of a short message that is put together in place.
// It is meant to be a local variable: a key schedule has dozens of them, and
// what crypto/hmac takes from the heap for each costs more than the hashing.
type shortMAC struct {
	hash crypto.Hash
	buf  [sha512.BlockSize + maxShortMAC]byte // the padded key and the message
}

// Bytes of the two pads.
const ipad, opad = 0x36, 0x5c

// begin sets the key, and returns the empty message: maxShortMAC bytes can be
// appended to it.
func (m *shortMAC) begin(h crypto.Hash, key []byte) []byte {
	size := blockSize(h)
	m.hash = h
	if len(key) > size {
		digest(h, m.buf[:0], key)
	} else {
		copy(m.buf[:size], key)
	}
	for i := range m.buf[:size] {
		m.buf[i] ^= ipad
	}
	return m.buf[size : size : size+maxShortMAC]
}

// sum appends the MAC to out. message is what begin returned, with the message
// appended. It can be called once.
func (m *shortMAC) sum(out, message []byte) []byte {
	if len(message) > maxShortMAC {
		panic("mls: message of a short MAC is too long") // it is not in buf
	}
	size := blockSize(m.hash)
	inner := digest(m.hash, m.buf[size:size], m.buf[:size+len(message)])
	for i := range m.buf[:size] {
		m.buf[i] ^= ipad ^ opad
	}
	return digest(m.hash, out, m.buf[:size+len(inner)])
}

// mac is HMAC of a message of any length.
func mac(h crypto.Hash, key, message []byte) []byte {
	if len(message) > maxShortMAC {
		m := hmac.New(h.New, key)
		m.Write(message)
		return m.Sum(nil)
	}
	var m shortMAC
	return m.sum(nil, append(m.begin(h, key), message...))
}
