package mls

import "github.com/cloudmls/gateway/mls/internal/codec"

// hpkeCiphertext is HPKECiphertext (RFC 9420 section 7.6).
type hpkeCiphertext struct {
	kemOutput  []byte
	ciphertext []byte
}

func (c *hpkeCiphertext) marshal(w *codec.Writer) {
	w.Opaque(c.kemOutput)
	w.Opaque(c.ciphertext)
}

func (c *hpkeCiphertext) unmarshal(r *codec.Reader) {
	c.kemOutput = r.OpaqueMax(maxKey)
	c.ciphertext = r.Opaque()
}

// updatePathNode is UpdatePathNode (RFC 9420 section 7.6).
type updatePathNode struct {
	encryptionKey []byte
	secrets       ciphertexts
}

// ciphertexts is a vector of HPKECiphertext as it is sent: of thousands, a
// member needs one.
type ciphertexts struct {
	octets []byte // with the length header
	count  int
	size   int // of each, in bytes; 0 if they differ
}

func newCiphertexts(list []hpkeCiphertext) (c ciphertexts) {
	var w codec.Writer
	w.Vector(func() {
		for i := range list {
			list[i].marshal(&w)
		}
	})
	c.unmarshal(codec.NewReader(w.Bytes()))
	return c
}

func (c *ciphertexts) unmarshal(r *codec.Reader) {
	c.octets = r.Octets(func() {
		r.Vector(MaxLeaves, func(r *codec.Reader) {
			var skipped hpkeCiphertext
			left := r.Len()
			skipped.unmarshal(r)
			size := left - r.Len()
			if c.count == 0 {
				c.size = size
			} else if c.size != size {
				c.size = 0
			}
			c.count++
		})
	})
}

// at decodes one of them.
func (c *ciphertexts) at(i int) (h hpkeCiphertext) {
	r := codec.NewReader(codec.NewReader(c.octets).Opaque())
	if c.size > 0 {
		r.Raw(i * c.size)
	} else {
		for range i {
			h.unmarshal(r)
		}
	}
	h.unmarshal(r)
	return h
}

// updatePath is UpdatePath (RFC 9420 section 7.6).
type updatePath struct {
	leaf  leafNode
	nodes []updatePathNode
}

func (p *updatePath) marshal(w *codec.Writer) {
	p.leaf.marshal(w)
	w.Vector(func() {
		for i := range p.nodes {
			w.Opaque(p.nodes[i].encryptionKey)
			w.Raw(p.nodes[i].secrets.octets)
		}
	})
}

func (p *updatePath) unmarshal(r *codec.Reader) {
	p.leaf.unmarshal(r)
	r.Vector(maxPathNodes, func(r *codec.Reader) {
		n := updatePathNode{encryptionKey: r.OpaqueMax(maxKey)}
		n.secrets.unmarshal(r)
		p.nodes = append(p.nodes, n)
	})
}
