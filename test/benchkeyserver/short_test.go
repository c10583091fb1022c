package benchkeyserver

import "testing"

// TestShort: the benchmark runs at all.
func TestShort(t *testing.T) {
	requests(t, short())
}
