package envelope

import "math/bits"

// MinSize is the size of the smallest envelope, in octets.
const MinSize = 256

// Padme rounds a size up so that at most O(log log n) bits of it are visible,
// at a cost of at most 12 % (Nikitin et al., "Reducing Metadata Leakage from
// Encrypted Files and Communication with PURBs", 2019, section 4).
func Padme(n int) int {
	if n < 2 {
		return n
	}
	e := bits.Len(uint(n)) - 1 // floor(log2 n)
	s := bits.Len(uint(e))     // floor(log2 e) + 1
	if e <= s {
		return n
	}
	mask := 1<<(e-s) - 1
	return (n + mask) &^ mask
}

// Size returns the size of an envelope around n octets of plaintext.
func Size(n int) int {
	return max(MinSize, Padme(overhead+n))
}
