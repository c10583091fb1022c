//go:build !weakkdf

package keys

// What a password derivation costs at least, and by default.
const (
	floorTime      = 3
	floorMemoryKiB = 64 << 10
)
