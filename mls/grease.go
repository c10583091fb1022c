package mls

import "crypto/rand"

// grease returns one of the values that RFC 9420 section 13.5 reserves so that
// clients show they ignore what they do not know: 0x0A0A, 0x1A1A … 0xEAEA.
func grease() uint16 {
	var b [1]byte
	rand.Read(b[:]) // never fails
	n := uint16(b[0]) % 15
	return n<<12 | 0x0a00 | n<<4 | 0x000a
}

// randomBytes returns n random bytes.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
