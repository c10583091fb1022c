package mls

import "github.com/cloudmls/gateway/mls/internal/codec"

// publicMessage is PublicMessage (RFC 9420 section 6.2): signed, not
// encrypted.
type publicMessage struct {
	framed        framedContent
	auth          authData
	membershipTag []byte // of a member
}

func (p *publicMessage) marshal(w *codec.Writer) {
	p.framed.marshal(w)
	p.auth.marshal(w, p.framed.contentType)
	if p.framed.sender.Type == SenderMember {
		w.Opaque(p.membershipTag)
	}
}

func (p *publicMessage) unmarshal(r *codec.Reader) {
	p.framed.unmarshal(r)
	p.auth.unmarshal(r, p.framed.contentType)
	if p.framed.sender.Type == SenderMember {
		p.membershipTag = r.OpaqueMax(maxHash)
	}
}
