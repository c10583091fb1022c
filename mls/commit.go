package mls

import "github.com/cloudmls/gateway/mls/internal/codec"

// commit is Commit (RFC 9420 section 12.4).
type commit struct {
	proposals []proposalOrRef
	path      *updatePath // nil if absent
	// octets is the encoding, once it is received or complete: it may be most of
	// a megabyte, and is signed, hashed and sent. The rest must not change then.
	octets []byte
}

// encoded returns the encoding, without copying it if it is there.
func (c *commit) encoded() []byte {
	if c.octets != nil {
		return c.octets
	}
	return encode(c)
}

// size returns the size of the encoding, if it is there, in bytes.
func (c *commit) size() int {
	if c == nil {
		return 0
	}
	return len(c.octets)
}

func (c *commit) marshal(w *codec.Writer) {
	if c.octets != nil {
		w.Raw(c.octets)
		return
	}
	w.Vector(func() {
		for i := range c.proposals {
			c.proposals[i].marshal(w)
		}
	})
	w.Optional(c.path != nil, func() { c.path.marshal(w) })
}

func (c *commit) unmarshal(r *codec.Reader) {
	c.octets = r.Octets(func() { c.read(r) })
}

func (c *commit) read(r *codec.Reader) {
	r.Vector(MaxProposals, func(r *codec.Reader) {
		var p proposalOrRef
		p.unmarshal(r)
		c.proposals = append(c.proposals, p)
	})
	r.Optional(func(r *codec.Reader) {
		c.path = new(updatePath)
		c.path.unmarshal(r)
	})
}
