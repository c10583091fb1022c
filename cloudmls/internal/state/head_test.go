package state

import (
	"slices"
	"testing"
)

// TestRootsAreBounded: however often ROOT is replaced, the head stays one that
// is read again, and names the roots that are in use.
func TestRootsAreBounded(t *testing.T) {
	t.Parallel()
	mark := func(v uint32) rootMark {
		return rootMark{version: v, since: uint64(v), id: [32]byte{byte(v), byte(v >> 8)}}
	}
	h := emptyView(mark(1)).head
	// Something lies under 2 still.
	used := func(v uint32) map[uint32][]byte { return map[uint32][]byte{2: {1}, v: {1}} }
	for v := uint32(2); v <= maxRoots+100; v++ {
		if err := h.addRoot(mark(v), used(v)); err != nil {
			t.Fatalf("root %d: %v", v, err)
		}
		got, err := parseHead(h.marshal())
		if err != nil {
			t.Fatalf("root %d: %v", v, err)
		}
		if got.roots[len(got.roots)-1] != mark(v) || !slices.Contains(got.roots, mark(2)) {
			t.Fatalf("root %d: a root that is in use is not named", v)
		}
	}
	if len(h.roots) != maxRoots || slices.Contains(h.roots, mark(1)) || slices.Contains(h.roots, mark(100)) {
		t.Errorf("%d roots, the oldest not forgotten", len(h.roots))
	}
	all := map[uint32][]byte{maxRoots + 200: {1}}
	for _, m := range h.roots {
		all[m.version] = []byte{1}
	}
	if err := h.addRoot(mark(maxRoots+200), all); err == nil || len(h.roots) != maxRoots {
		t.Errorf("all roots are in use: %v, %d", err, len(h.roots))
	}
}
