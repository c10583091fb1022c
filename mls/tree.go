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
// always full: 2^d leaves and 2^d-1 parents, blank or not. The tree of a Group is
// never changed, and has all its hashes and its index, so that copies share it;
// changes are made to a clone, which shares what it does not change.
type ratchetTree struct {
	nodes   *chunked[treeNode] // one more than there are nodes, which stays empty
	free    int                // no leaf below it is blank
	index   *treeIndex         // of the nodes as they were before they changed; nil if it is not made
	changed []change           // since the index was made
}

// treeNode is a node with its tree hash.
type treeNode struct {
	leaf   *leafNode   // nil if it is blank, or no leaf
	parent *parentNode // nil if it is blank, or a leaf
	hash   []byte      // nil if it is not computed; then no node above has one
}

func newRatchetTree(size uint32) *ratchetTree {
	return &ratchetTree{nodes: newChunked[treeNode](2 * int(size))}
}

func (t *ratchetTree) clone() *ratchetTree {
	c := &ratchetTree{nodes: t.nodes.clone(), free: t.free, index: t.index}
	if len(t.changed) > 0 {
		c.index = nil
	}
	return c
}

// size returns the number of leaves, blank ones included.
func (t *ratchetTree) size() uint32 { return uint32(t.nodes.n / 2) }

// width returns the number of nodes.
func (t *ratchetTree) width() node { return node(treemath.Width(t.size())) }

func (t *ratchetTree) root() node { return treemath.Root(t.size()) }

// leaf returns leaf l, or nil if it is blank or not in the tree.
func (t *ratchetTree) leaf(l LeafIndex) *leafNode {
	if uint32(l) >= t.size() {
		return nil
	}
	return t.nodes.at(2 * int(l)).leaf
}

// leafAt returns the leaf at node n, or nil if it is blank or not in the tree,
// or n is a parent.
func (t *ratchetTree) leafAt(n node) *leafNode {
	if int(n) >= t.nodes.n {
		return nil
	}
	return t.nodes.at(int(n)).leaf
}

// parent returns parent n, or nil if it is blank or not in the tree.
func (t *ratchetTree) parent(n node) *parentNode {
	if int(n) >= t.nodes.n {
		return nil
	}
	return t.nodes.at(int(n)).parent
}

func (t *ratchetTree) blank(n node) bool { return t.leafAt(n) == nil && t.parent(n) == nil }

// key returns the encryption key of n, or nil if it is blank.
func (t *ratchetTree) key(n node) []byte {
	if l := t.leafAt(n); l != nil {
		return l.encryptionKey
	}
	if p := t.parent(n); p != nil {
		return p.encryptionKey
	}
	return nil
}

// signatureKey returns the signature key of the member at n, or nil if there is
// none.
func (t *ratchetTree) signatureKey(n node) []byte {
	if l := t.leafAt(n); l != nil {
		return l.signatureKey
	}
	return nil
}

// set puts a node, or a blank one, into the tree.
func (t *ratchetTree) set(n node, leaf *leafNode, parent *parentNode) {
	was := t.nodes.change(int(n))
	if was.leaf != leaf || was.parent != parent {
		t.changed = append(t.changed, change{node: n, leaf: was.leaf, parent: was.parent})
	}
	was.leaf, was.parent = leaf, parent
	t.invalidate(n)
}

// invalidate forgets the hashes of n and of all nodes above it.
func (t *ratchetTree) invalidate(n node) {
	for ok := true; ok && t.nodes.at(int(n)).hash != nil; n, ok = n.Parent(t.size()) {
		t.nodes.change(int(n)).hash = nil
	}
}

func (t *ratchetTree) setLeaf(l LeafIndex, leaf *leafNode) {
	if leaf == nil {
		t.free = min(t.free, int(l))
	}
	t.set(l.node(), leaf, nil)
}

func (t *ratchetTree) setParent(n node, p *parentNode) { t.set(n, nil, p) }

// blankPath blanks the direct path of l.
func (t *ratchetTree) blankPath(l LeafIndex) {
	for _, n := range l.node().DirectPath(t.size()) {
		if t.parent(n) != nil {
			t.setParent(n, nil)
		}
	}
}

// leftmostBlank returns where the next member goes: the leftmost blank leaf,
// after extending the tree if there is none (RFC 9420 section 7.7).
func (t *ratchetTree) leftmostBlank() (LeafIndex, error) {
	for t.free < int(t.size()) && t.leaf(LeafIndex(t.free)) != nil {
		t.free++
	}
	if t.free == int(t.size()) {
		if err := t.extend(); err != nil {
			return 0, err
		}
	}
	return LeafIndex(t.free), nil
}

// extend doubles the tree; the old one is the left half of the new one.
func (t *ratchetTree) extend() error {
	if 2*t.size() > MaxLeaves {
		return invalid("7.7", "tree has too many leaves")
	}
	t.nodes.resize(2 * t.nodes.n)
	return nil
}

// truncate removes the right half as long as it has no member (RFC 9420
// section 7.7).
func (t *ratchetTree) truncate() {
	for t.size() > 1 {
		half := t.size() / 2
		for l := half; l < t.size(); l++ {
			if t.leaf(LeafIndex(l)) != nil {
				return
			}
		}
		// The root becomes the element that is no node, until the tree grows
		// again: its hash may be known, and must not come back then.
		t.set(t.root(), nil, nil)
		t.nodes.resize(2 * int(half))
		t.free = min(t.free, int(half))
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
		t.setParent(n, &changed)
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
	switch s := t.nodes.at(int(n)); {
	case s.parent != nil:
		list = append(list, n)
		for _, l := range s.parent.unmerged {
			list = append(list, l.node())
		}
		return list
	case s.leaf != nil:
		return append(list, n)
	case n.IsLeaf():
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
	for i := range LeafIndex(t.size()) {
		if l := t.leaf(i); l != nil {
			f(i, l)
		}
	}
}
