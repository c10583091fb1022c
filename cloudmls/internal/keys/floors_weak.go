//go:build weakkdf

package keys

import "testing"

// The model test signs in some ten thousand times. A program built with the tag
// does not start.
const (
	floorTime      = 1
	floorMemoryKiB = 32
)

func init() {
	if !testing.Testing() {
		panic("built with the tag weakkdf, which makes passwords cheap to search: for tests only")
	}
}
