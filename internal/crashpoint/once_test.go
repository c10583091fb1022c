//go:build crashpoints

package crashpoint

import (
	"fmt"
	"slices"
	"testing"
)

type name string

func (n name) String() string { return string(n) }

// TestWatch: what is the same is called the same, and nothing else is.
func TestWatch(t *testing.T) {
	var seen []string
	Watch(func(s string) { seen = append(seen, s) })
	defer Watch(nil)
	for _, of := range []fmt.Stringer{name("a"), name("b")} {
		for _, group := range []string{"g", "h"} {
			for epoch := range uint64(2) {
				for n := range uint32(2) {
					Once("thing", of, []byte(group), epoch, n)
				}
			}
		}
	}
	Watch(nil)
	Once("thing", name("c"), nil, 9, 9)
	slices.Sort(seen)
	if len(slices.Compact(slices.Clone(seen))) != 16 || len(seen) != 16 {
		t.Errorf("%q", seen)
	}
}
