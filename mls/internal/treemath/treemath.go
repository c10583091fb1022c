// Package treemath computes positions in the array-based ratchet tree of
// RFC 9420 appendix C. A tree is always full: it has 2^d leaves, leaf i at
// node 2i, and its root at node 2^d-1.
package treemath

import "math/bits"

// Node is an index into the array of nodes.
type Node uint32

// Leaf is an index among the leaves.
type Leaf uint32

// Node returns the node of leaf l.
func (l Leaf) Node() Node { return Node(l) << 1 }

// IsLeaf reports whether x is a leaf.
func (x Node) IsLeaf() bool { return x&1 == 0 }

// Leaf returns the leaf index of x, which must be a leaf.
func (x Node) Leaf() Leaf { return Leaf(x >> 1) }

// Level returns the height of x: 0 for a leaf, 1 for its parent.
func (x Node) Level() uint { return uint(bits.TrailingZeros32(^uint32(x))) }

// Width returns the number of nodes of a tree with leaves leaves.
func Width(leaves uint32) uint32 {
	if leaves == 0 {
		return 0
	}
	return 2*(leaves-1) + 1
}

// FullSize returns the smallest power of two that is at least leaves, or 0
// for 0.
func FullSize(leaves uint32) uint32 {
	if leaves == 0 {
		return 0
	}
	return 1 << bits.Len32(leaves-1)
}

// Root returns the root of a full tree with leaves leaves.
func Root(leaves uint32) Node {
	if leaves == 0 {
		return 0
	}
	return Node(1)<<(bits.Len32(Width(leaves))-1) - 1
}

// Left returns the left child of x; ok is false for a leaf.
func (x Node) Left() (child Node, ok bool) {
	k := x.Level()
	if k == 0 {
		return 0, false
	}
	return x ^ 1<<(k-1), true
}

// Right returns the right child of x; ok is false for a leaf.
func (x Node) Right() (child Node, ok bool) {
	k := x.Level()
	if k == 0 {
		return 0, false
	}
	return x ^ 3<<(k-1), true
}

// Parent returns the parent of x in a tree with leaves leaves; ok is false
// for the root.
func (x Node) Parent(leaves uint32) (parent Node, ok bool) {
	if x == Root(leaves) {
		return 0, false
	}
	k := x.Level()
	return (x | 1<<k) &^ (1 << (k + 1)), true
}

// Sibling returns the other child of x's parent; ok is false for the root.
func (x Node) Sibling(leaves uint32) (sibling Node, ok bool) {
	p, ok := x.Parent(leaves)
	if !ok {
		return 0, false
	}
	if x < p {
		return p.Right()
	}
	return p.Left()
}

// DirectPath returns the ancestors of x from its parent to the root.
func (x Node) DirectPath(leaves uint32) []Node {
	var path []Node
	for p, ok := x.Parent(leaves); ok; p, ok = p.Parent(leaves) {
		path = append(path, p)
	}
	return path
}

// InSubtree reports whether x is root or one of its descendants.
func (x Node) InSubtree(root Node) bool {
	k := root.Level()
	span := Node(1)<<k - 1
	return x >= root-span && x <= root+span
}

// CommonAncestor returns the lowest node that has both a and b below it or is
// one of them.
func CommonAncestor(a, b Node) Node {
	for k := max(a.Level(), b.Level()); ; k++ {
		// The node of level k above a: its low k bits are ones, bit k is zero.
		x := a&^(1<<(k+1)-1) | (1<<k - 1)
		if a.InSubtree(x) && b.InSubtree(x) {
			return x
		}
	}
}
