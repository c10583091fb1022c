package mls

import (
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/treemath"
)

// Node types (RFC 9420 section 7.8).
const (
	nodeTypeLeaf   = 1
	nodeTypeParent = 2
)

// marshal writes the tree as the ratchet_tree extension does (RFC 9420 section
// 12.4.3.3): without the blank nodes after the last one that is not blank.
func (t *ratchetTree) marshal(w *codec.Writer) {
	last := 2*len(t.leaves) - 2
	for last > 0 && t.blank(node(last)) {
		last--
	}
	w.Vector(func() {
		for n := node(0); n <= node(last); n++ {
			if n.IsLeaf() {
				leaf := t.leaves[n.Leaf()]
				w.Optional(leaf != nil, func() {
					w.Uint8(nodeTypeLeaf)
					leaf.marshal(w)
				})
				continue
			}
			parent := t.parent(n)
			w.Optional(parent != nil, func() {
				w.Uint8(nodeTypeParent)
				parent.marshal(w)
			})
		}
	})
}

// unmarshal reads the tree of a ratchet_tree extension and fills it up with
// blank nodes to the next full size.
func (t *ratchetTree) unmarshal(r *codec.Reader) {
	var leaves []*leafNode
	var parents []*parentNode
	var n node
	lastBlank := true
	r.Vector(maxTreeNodes, func(r *codec.Reader) {
		var leaf *leafNode
		var parent *parentNode
		lastBlank = !r.Optional(func(r *codec.Reader) {
			switch kind := r.Uint8(); {
			case n.IsLeaf() && kind == nodeTypeLeaf:
				leaf = new(leafNode)
				leaf.unmarshal(r)
			case !n.IsLeaf() && kind == nodeTypeParent:
				parent = new(parentNode)
				parent.unmarshal(r)
			default:
				r.Fail(invalid("12.4.3.3", fmt.Sprintf("node %d has the wrong node type", n)))
			}
		})
		if n.IsLeaf() {
			leaves = append(leaves, leaf)
		} else {
			parents = append(parents, parent)
		}
		n++
	})
	// RFC 9420 section 12.4.3.3: the last node must not be blank.
	if r.Err() == nil && lastBlank {
		r.Fail(invalid("12.4.3.3", "ratchet tree is empty or ends with a blank node"))
	}
	if r.Err() != nil {
		return
	}
	size := treemath.FullSize(uint32(len(leaves)))
	if len(parents) == len(leaves) { // the last node is a parent
		size = treemath.FullSize(uint32(len(leaves)) + 1)
	}
	if size > MaxLeaves {
		r.Fail(invalid("12.4.3.3", "ratchet tree has too many leaves"))
		return
	}
	*t = *newRatchetTree(size)
	copy(t.leaves, leaves)
	copy(t.parents, parents)
	// The right half of a tree must not be all blank (section 7.7).
	t.truncate()
	if t.size() != size {
		r.Fail(invalid("7.7", "ratchet tree is larger than its members need"))
	}
}

func parseRatchetTree(b []byte) (*ratchetTree, error) {
	t := new(ratchetTree)
	if err := decode(b, t); err != nil {
		return nil, invalidBecause("12.4.3.3", "ratchet tree is malformed", err)
	}
	return t, nil
}
