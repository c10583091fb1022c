package mls

import (
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// groupContext is GroupContext (RFC 9420 section 8.1).
type groupContext struct {
	suite          CipherSuite
	groupID        GroupID
	epoch          Epoch
	treeHash       []byte
	transcriptHash []byte // confirmed
	extensions     []Extension
}

func (c *groupContext) marshal(w *codec.Writer) {
	w.Uint16(uint16(MLS10))
	w.Uint16(uint16(c.suite))
	w.Opaque([]byte(c.groupID))
	w.Uint64(uint64(c.epoch))
	w.Opaque(c.treeHash)
	w.Opaque(c.transcriptHash)
	writeExtensions(w, c.extensions)
}

func (c *groupContext) unmarshal(r *codec.Reader) {
	if v := ProtocolVersion(r.Uint16()); r.Err() == nil && v != MLS10 {
		r.Fail(fmt.Errorf("unknown protocol version %d", v))
	}
	c.suite = CipherSuite(r.Uint16())
	c.groupID = GroupID(r.OpaqueMax(maxGroupID))
	c.epoch = Epoch(r.Uint64())
	c.treeHash = r.OpaqueMax(maxHash)
	c.transcriptHash = r.OpaqueMax(maxHash)
	c.extensions = readExtensions(r)
}
