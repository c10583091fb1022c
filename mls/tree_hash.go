package mls

import (
	"slices"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// treeHash returns the tree hash of n (RFC 9420 section 7.8), computing only
// what changed since the last call.
func (t *ratchetTree) treeHash(s *labeled.Suite, n node) []byte {
	if t.nodes.at(int(n)).hash == nil {
		hash := t.computeHash(s, n, nil)
		t.nodes.change(int(n)).hash = hash
	}
	return t.nodes.at(int(n)).hash
}

// rootHash returns the tree hash of the whole tree. After it, all hashes of
// the tree are known.
func (t *ratchetTree) rootHash(s *labeled.Suite) []byte { return t.treeHash(s, t.root()) }

// hashWithout returns the tree hash that n would have if the leaves without,
// in ascending order, were blank and in no unmerged_leaves list.
func (t *ratchetTree) hashWithout(s *labeled.Suite, n node, without []LeafIndex) []byte {
	without = within(without, n)
	if len(without) == 0 {
		return t.treeHash(s, n)
	}
	return t.computeHash(s, n, without)
}

func (t *ratchetTree) computeHash(s *labeled.Suite, n node, without []LeafIndex) []byte {
	var w codec.Writer
	w.Grow(usualSize)
	if n.IsLeaf() {
		leaf := t.leafAt(n)
		if len(without) > 0 {
			leaf = nil
		}
		w.Uint8(nodeTypeLeaf)
		w.Uint32(uint32(n.Leaf()))
		w.Optional(leaf != nil, func() { leaf.marshal(&w) })
		return s.Hash(w.Bytes())
	}
	left, _ := n.Left()
	right, _ := n.Right()
	w.Uint8(nodeTypeParent)
	p := t.parent(n)
	if p != nil && len(without) > 0 {
		changed := *p
		changed.unmerged = subtract(p.unmerged, without)
		p = &changed
	}
	w.Optional(p != nil, func() { p.marshal(&w) })
	w.Opaque(t.hashWithout(s, left, without))
	w.Opaque(t.hashWithout(s, right, without))
	return s.Hash(w.Bytes())
}

// within returns the part of an ascending list that is under n.
func within(list []LeafIndex, n node) []LeafIndex {
	if len(list) == 0 {
		return nil
	}
	span := node(1)<<n.Level() - 1
	from, _ := slices.BinarySearch(list, LeafIndex((n-span)>>1))
	to, _ := slices.BinarySearch(list, LeafIndex((n+span)>>1)+1)
	return list[from:to]
}

// subtract returns the ascending list a without the elements of b.
func subtract(a, b []LeafIndex) []LeafIndex {
	var out []LeafIndex
	for _, l := range a {
		if _, found := slices.BinarySearch(b, l); !found {
			out = append(out, l)
		}
	}
	return out
}
