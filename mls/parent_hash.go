package mls

import (
	"bytes"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// parentHash returns the parent hash of parent p with the copath child sibling
// (RFC 9420 section 7.9). p must not be blank.
func (t *ratchetTree) parentHash(s *labeled.Suite, p *parentNode, sibling node) []byte {
	var w codec.Writer
	w.Grow(usualSize)
	w.Opaque(p.encryptionKey)
	w.Opaque(p.parentHash)
	w.Opaque(t.hashWithout(s, sibling, p.unmerged))
	return s.Hash(w.Bytes())
}

// setPath puts fresh keys on the filtered direct path of leaf l, from leaf to
// root, and blanks the rest of its direct path. It sets the parent hashes of
// the path and returns the one that belongs into the leaf (RFC 9420 sections
// 7.5 and 7.9). The leaf itself is the caller's.
func (t *ratchetTree) setPath(s *labeled.Suite, l LeafIndex, path []pathNode, keys [][]byte) []byte {
	t.blankPath(l)
	hash := []byte{}
	for i := len(path) - 1; i >= 0; i-- {
		p := &parentNode{encryptionKey: keys[i], parentHash: hash}
		t.setParent(path[i].node, p)
		hash = t.parentHash(s, p, path[i].copath)
	}
	return hash
}

// parentHashOf returns the parent_hash field of n, nil if it has none.
func (t *ratchetTree) parentHashOf(n node) []byte {
	if n.IsLeaf() {
		if l := t.leaf(LeafIndex(n.Leaf())); l != nil && l.source == sourceCommit {
			return l.parentHash
		}
		return nil
	}
	if p := t.parent(n); p != nil {
		return p.parentHash
	}
	return nil
}

// verifyParentHashes checks that each parent node that is not blank is
// parent-hash valid with respect to exactly one descendant (RFC 9420 section
// 7.9.2). As this holds for every one, each chain ends at a leaf. All hashes of
// the tree must be known.
func (t *ratchetTree) verifyParentHashes(s *labeled.Suite, w workers) error {
	return w.each(int(t.size())-1, func(i int) error {
		n := node(2*i + 1)
		p := t.parent(n)
		if p == nil {
			return nil
		}
		left, _ := n.Left()
		right, _ := n.Right()
		chains := 0
		if t.chained(s, p, left, right) {
			chains++
		}
		if t.chained(s, p, right, left) {
			chains++
		}
		if chains != 1 {
			return invalid("7.9.2", "parent node is not parent-hash valid")
		}
		return nil
	})
}

// chained reports whether a node D under child is the one that was set
// together with p: D is in the resolution of child, the rest of that
// resolution is exactly p's unmerged leaves under child, and D's parent_hash
// is the parent hash of p with copath child sibling.
func (t *ratchetTree) chained(s *labeled.Suite, p *parentNode, child, sibling node) bool {
	unmerged := within(p.unmerged, child)
	resolution := t.resolution(child)
	if len(resolution) != len(unmerged)+1 {
		return false
	}
	skip := make(map[node]bool, len(unmerged))
	for _, l := range unmerged {
		skip[l.node()] = true
	}
	var d node
	rest := 0
	for _, n := range resolution {
		if !skip[n] {
			d = n
			rest++
		}
	}
	if rest != 1 {
		return false
	}
	have := t.parentHashOf(d)
	return have != nil && bytes.Equal(have, t.parentHash(s, p, sibling))
}
