package state

import (
	"bytes"
	"strconv"
	"testing"
)

// TestRememberedIDs: what is remembered is what would be computed, for the key
// that it is asked for, and there is not ever more of it.
func TestRememberedIDs(t *testing.T) {
	var c idCache
	one, other := bytes.Repeat([]byte{1}, secretSize), bytes.Repeat([]byte{2}, secretSize)
	for i := range 3 * maxIDs {
		index := one
		if i/100%7 == 6 { // as if there were another keyring
			index = other
		}
		for _, k := range []Key{{Type: TypeConversation, Name: strconv.Itoa(i)}, {Type: TypeGroup, Name: "always"}} {
			want := objectID(index, k)
			if c.of(index, k) != want || c.of(index, k) != want {
				t.Fatalf("another id of %v", k)
			}
			if len(c.ids) > maxIDs {
				t.Fatalf("%d ids are remembered", len(c.ids))
			}
		}
	}
}
