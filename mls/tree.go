package mls

import (
	"slices"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/treemath"
)

// node is an index into the array of nodes of a tree.
type node = treemath.Node

func (l LeafIndex) node() node { return treemath.Leaf(l).Node() }

// parentNode is ParentNode (RFC 9420 section 7.1). It is never changed once it
// is in a tree: a changed copy takes its place.
type parentNode struct {
	encryptionKey []byte
	parentHash    []byte
	unmerged      []LeafIndex // ascending
}

func (p *parentNode) marshal(w *codec.Writer) {
	w.Opaque(p.encryptionKey)
	w.Opaque(p.parentHash)
	w.Vector(func() {
		for _, l := range p.unmerged {
			w.Uint32(uint32(l))
		}
	})
}

func (p *parentNode) unmarshal(r *codec.Reader) {
	p.encryptionKey = r.OpaqueMax(maxKey)
	p.parentHash = r.OpaqueMax(maxHash)
	r.Vector(maxUnmerged, func(r *codec.Reader) { p.unmerged = append(p.unmerged, LeafIndex(r.Uint32())) })
	// RFC 9420 section 7.1: the entries are in increasing order.
	for i := 1; i < len(p.unmerged); i++ {
		if p.unmerged[i-1] >= p.unmerged[i] {
			r.Fail(invalid("7.1", "unmerged_leaves is not in increasing order"))
		}
	}
}

// ratchetTree is the public part of a ratchet tree (RFC 9420 section 7). It is
// always full: 2^d leaves and 2^d-1 parents, blank ones being nil. The tree of
// a Group is never changed and has all its hashes, so that copies share it;
// changes are made to a clone.
type ratchetTree struct {
	leaves  []*leafNode
	parents []*parentNode // node 2i+1 is entry i
	hashes  [][]byte      // tree hash by node; nil if not computed
	free    int           // no leaf below it is blank
}

func newRatchetTree(size uint32) *ratchetTree {
	return &ratchetTree{
		leaves:  make([]*leafNode, size),
		parents: make([]*parentNode, size-1),
		hashes:  make([][]byte, 2*size-1),
	}
}

func (t *ratchetTree) clone() *ratchetTree {
	return &ratchetTree{
		leaves:  slices.Clone(t.leaves),
		parents: slices.Clone(t.parents),
		hashes:  slices.Clone(t.hashes),
		free:    t.free,
	}
}

// size returns the number of leaves, blank ones included.
func (t *ratchetTree) size() uint32 { return uint32(len(t.leaves)) }

func (t *ratchetTree) root() node { return treemath.Root(t.size()) }

// leaf returns leaf l, or nil if it is blank or not in the tree.
func (t *ratchetTree) leaf(l LeafIndex) *leafNode {
	if uint64(l) >= uint64(len(t.leaves)) {
		return nil
	}
	return t.leaves[l]
}

// parent returns parent n, or nil if it is blank or not in the tree.
func (t *ratchetTree) parent(n node) *parentNode {
	if i := uint64(n >> 1); i < uint64(len(t.parents)) {
		return t.parents[i]
	}
	return nil
}

func (t *ratchetTree) blank(n node) bool {
	if n.IsLeaf() {
		return t.leaf(LeafIndex(n.Leaf())) == nil
	}
	return t.parent(n) == nil
}

// key returns the encryption key of n, or nil if it is blank.
func (t *ratchetTree) key(n node) []byte {
	if n.IsLeaf() {
		if l := t.leaf(LeafIndex(n.Leaf())); l != nil {
			return l.encryptionKey
		}
		return nil
	}
	if p := t.parent(n); p != nil {
		return p.encryptionKey
	}
	return nil
}

// invalidate forgets the hashes of n and of all nodes above it.
func (t *ratchetTree) invalidate(n node) {
	t.hashes[n] = nil
	for p, ok := n.Parent(t.size()); ok; p, ok = p.Parent(t.size()) {
		t.hashes[p] = nil
	}
}

func (t *ratchetTree) setLeaf(l LeafIndex, leaf *leafNode) {
	t.leaves[l] = leaf
	if leaf == nil {
		t.free = min(t.free, int(l))
	}
	t.invalidate(l.node())
}

func (t *ratchetTree) setParent(n node, p *parentNode) {
	t.parents[n>>1] = p
	t.invalidate(n)
}

// blankPath blanks the direct path of l.
func (t *ratchetTree) blankPath(l LeafIndex) {
	for _, n := range l.node().DirectPath(t.size()) {
		t.parents[n>>1] = nil
		t.hashes[n] = nil
	}
	t.hashes[l.node()] = nil
}

// leftmostBlank returns where the next member goes: the leftmost blank leaf,
// after extending the tree if there is none (RFC 9420 section 7.7).
func (t *ratchetTree) leftmostBlank() (LeafIndex, error) {
	for t.free < len(t.leaves) && t.leaves[t.free] != nil {
		t.free++
	}
	if t.free == len(t.leaves) {
		if err := t.extend(); err != nil {
			return 0, err
		}
	}
	return LeafIndex(t.free), nil
}

// extend doubles the tree; the old one is the left half of the new one.
func (t *ratchetTree) extend() error {
	size := 2 * len(t.leaves)
	if size > MaxLeaves {
		return invalid("7.7", "tree has too many leaves")
	}
	t.leaves = append(t.leaves, make([]*leafNode, size-len(t.leaves))...)
	t.parents = append(t.parents, make([]*parentNode, size-1-len(t.parents))...)
	t.hashes = append(t.hashes, make([][]byte, 2*size-1-len(t.hashes))...)
	return nil
}

// truncate removes the right half as long as it has no member (RFC 9420
// section 7.7).
func (t *ratchetTree) truncate() {
	for len(t.leaves) > 1 {
		half := len(t.leaves) / 2
		if slices.ContainsFunc(t.leaves[half:], func(l *leafNode) bool { return l != nil }) {
			return
		}
		t.leaves = t.leaves[:half:half]
		t.parents = t.parents[: half-1 : half-1]
		t.hashes = t.hashes[: 2*half-1 : 2*half-1]
		t.free = min(t.free, half)
	}
}

// add places a new member and returns its leaf (RFC 9420 section 12.1.1).
func (t *ratchetTree) add(leaf *leafNode) (LeafIndex, error) {
	l, err := t.leftmostBlank()
	if err != nil {
		return 0, err
	}
	for _, n := range l.node().DirectPath(t.size()) {
		p := t.parent(n)
		if p == nil {
			continue
		}
		at, found := slices.BinarySearch(p.unmerged, l)
		if found {
			continue
		}
		changed := *p
		changed.unmerged = slices.Insert(slices.Clone(p.unmerged), at, l)
		t.parents[n>>1] = &changed
	}
	t.setLeaf(l, leaf)
	return l, nil
}

// update replaces a member's leaf (RFC 9420 section 12.1.2).
func (t *ratchetTree) update(l LeafIndex, leaf *leafNode) {
	t.setLeaf(l, leaf)
	t.blankPath(l)
}

// remove removes a member (RFC 9420 section 12.1.3). The caller truncates when
// all removals are done.
func (t *ratchetTree) remove(l LeafIndex) {
	t.setLeaf(l, nil)
	t.blankPath(l)
}

// resolution returns the resolution of n (RFC 9420 section 4.1.1).
func (t *ratchetTree) resolution(n node) []node { return t.appendResolution(nil, n) }

func (t *ratchetTree) appendResolution(list []node, n node) []node {
	if n.IsLeaf() {
		if !t.blank(n) {
			list = append(list, n)
		}
		return list
	}
	if p := t.parent(n); p != nil {
		list = append(list, n)
		for _, l := range p.unmerged {
			list = append(list, l.node())
		}
		return list
	}
	left, _ := n.Left()
	right, _ := n.Right()
	return t.appendResolution(t.appendResolution(list, left), right)
}

// occupied reports whether the resolution of n is not empty: whether there is a
// member at or below it.
func (t *ratchetTree) occupied(n node) bool {
	if n.IsLeaf() || t.parent(n) != nil {
		return !t.blank(n)
	}
	left, _ := n.Left()
	right, _ := n.Right()
	return t.occupied(left) || t.occupied(right)
}

// pathNode is a node of a direct path with its child that is not on it.
type pathNode struct{ node, copath node }

// filteredPath returns the filtered direct path of l (RFC 9420 section 4.1.2):
// the nodes whose other child has somebody under it.
func (t *ratchetTree) filteredPath(l LeafIndex) []pathNode {
	var path []pathNode
	n := l.node()
	for {
		p, ok := n.Parent(t.size())
		if !ok {
			return path
		}
		sibling, _ := n.Sibling(t.size())
		if t.occupied(sibling) {
			path = append(path, pathNode{node: p, copath: sibling})
		}
		n = p
	}
}

// members calls f for each member in the order of the leaves.
func (t *ratchetTree) members(f func(LeafIndex, *leafNode)) {
	for i, l := range t.leaves {
		if l != nil {
			f(LeafIndex(i), l)
		}
	}
}
