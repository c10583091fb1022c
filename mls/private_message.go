package mls

import (
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// privateMessage is PrivateMessage (RFC 9420 section 6.3): signed and
// encrypted.
type privateMessage struct {
	groupID             GroupID
	epoch               Epoch
	contentType         ContentType
	authenticatedData   []byte
	encryptedSenderData []byte
	ciphertext          []byte
}

func (p *privateMessage) marshal(w *codec.Writer) {
	w.Raw(p.contentAAD())
	w.Opaque(p.encryptedSenderData)
	w.Opaque(p.ciphertext)
}

func (p *privateMessage) unmarshal(r *codec.Reader) {
	p.groupID = GroupID(r.OpaqueMax(maxGroupID))
	p.epoch = Epoch(r.Uint64())
	p.contentType = ContentType(r.Uint8())
	if t := p.contentType; r.Err() == nil && (t < ContentApplication || t > ContentCommit) {
		r.Fail(fmt.Errorf("unknown content type %d", t))
	}
	p.authenticatedData = r.Opaque()
	p.encryptedSenderData = r.OpaqueMax(maxHash)
	p.ciphertext = r.Opaque()
}

// senderDataAAD is SenderDataAAD (RFC 9420 section 6.3.2).
func (p *privateMessage) senderDataAAD() []byte {
	var w codec.Writer
	w.Opaque([]byte(p.groupID))
	w.Uint64(uint64(p.epoch))
	w.Uint8(uint8(p.contentType))
	return w.Bytes()
}

// contentAAD is PrivateContentAAD (RFC 9420 section 6.3.1).
func (p *privateMessage) contentAAD() []byte {
	var w codec.Writer
	w.Raw(p.senderDataAAD())
	w.Opaque(p.authenticatedData)
	return w.Bytes()
}
