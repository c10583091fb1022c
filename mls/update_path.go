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
	secrets       []hpkeCiphertext
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
			w.Vector(func() {
				for j := range p.nodes[i].secrets {
					p.nodes[i].secrets[j].marshal(w)
				}
			})
		}
	})
}

func (p *updatePath) unmarshal(r *codec.Reader) {
	p.leaf.unmarshal(r)
	r.Vector(maxPathNodes, func(r *codec.Reader) {
		n := updatePathNode{encryptionKey: r.OpaqueMax(maxKey)}
		r.Vector(MaxLeaves, func(r *codec.Reader) {
			var c hpkeCiphertext
			c.unmarshal(r)
			n.secrets = append(n.secrets, c)
		})
		p.nodes = append(p.nodes, n)
	})
}
