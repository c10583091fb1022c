package cloudmls

import "math/bits"

// minPadded is the smallest size that anything is padded to.
const minPadded = 256

// padme gives the size that n octets are padded to: Padmé, which leaks
// O(log log n) bits of the size for at most 12 % more octets, from a floor of
// 256 on.
func padme(n int) int {
	if n <= minPadded {
		return minPadded
	}
	e := bits.Len(uint(n)) - 1
	s := bits.Len(uint(e))
	mask := 1<<(e-s) - 1
	return (n + mask) &^ mask
}
