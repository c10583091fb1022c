package mls

import (
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// Node types (RFC 9420 section 7.8).
const (
	nodeTypeLeaf   = 1
	nodeTypeParent = 2
)

// marshal writes the tree as the ratchet_tree extension does (RFC 9420 section
// 12.4.3.3): without the blank nodes after the last one that is not blank.
func (t *ratchetTree) marshal(w *codec.Writer) {
	last := t.width() - 1
	for last > 0 && t.blank(last) {
		last--
	}
	w.Vector(func() {
		for n := node(0); n <= last; n++ {
			if n.IsLeaf() {
				leaf := t.leafAt(n)
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
	t.nodes = newChunked[treeNode](2)
	var n node
	r.Vector(maxTreeNodes, func(r *codec.Reader) {
		if n == t.width() {
			t.nodes.resize(2 * t.nodes.n)
		}
		at := t.nodes.change(int(n))
		r.Optional(func(r *codec.Reader) {
			switch kind := r.Uint8(); {
			case n.IsLeaf() && kind == nodeTypeLeaf:
				at.leaf = new(leafNode)
				at.leaf.unmarshal(r)
			case !n.IsLeaf() && kind == nodeTypeParent:
				at.parent = new(parentNode)
				at.parent.unmarshal(r)
			default:
				r.Fail(invalid("12.4.3.3", fmt.Sprintf("node %d has the wrong node type", n)))
			}
		})
		n++
	})
	// RFC 9420 section 12.4.3.3: the last node must not be blank.
	if r.Err() == nil && (n == 0 || t.blank(n-1)) {
		r.Fail(invalid("12.4.3.3", "ratchet tree is empty or ends with a blank node"))
	}
	if r.Err() != nil {
		return
	}
	// The right half of a tree must not be all blank (section 7.7).
	size := t.size()
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
