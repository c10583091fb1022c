package mls

import (
	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

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

// content returns what the message authenticates.
func (p *publicMessage) content() *authenticatedContent {
	return &authenticatedContent{wireFormat: WirePublicMessage, framed: p.framed, auth: p.auth}
}

// membershipMAC is the membership tag of RFC 9420 section 6.2.
func membershipMAC(s *labeled.Suite, key []byte, a *authenticatedContent, ctx *groupContext) []byte {
	return s.MAC(key, a.tbm(ctx))
}

// tbm is AuthenticatedContentTBM.
func (a *authenticatedContent) tbm(ctx *groupContext) []byte {
	var w codec.Writer
	for _, part := range a.framedTBS(ctx) {
		w.Raw(part)
	}
	a.auth.marshal(&w, a.framed.contentType)
	return w.Bytes()
}

// sealPublic makes a PublicMessage of signed content.
func sealPublic(s *labeled.Suite, membershipKey []byte, a *authenticatedContent, ctx *groupContext) (*publicMessage, error) {
	// RFC 9420 section 6: application messages are always encrypted.
	if a.framed.contentType == ContentApplication {
		return nil, invalid("6", "application message is not encrypted")
	}
	p := &publicMessage{framed: a.framed, auth: a.auth}
	if a.framed.sender.Type == SenderMember {
		p.membershipTag = membershipMAC(s, membershipKey, a, ctx)
	}
	return p, nil
}

// openPublic returns the content of a PublicMessage after checking the
// membership tag (RFC 9420 section 6.2). The signature is still to be checked.
func openPublic(s *labeled.Suite, membershipKey []byte, p *publicMessage, ctx *groupContext) (*authenticatedContent, error) {
	if p.framed.contentType == ContentApplication {
		return nil, invalid("6", "application message is not encrypted")
	}
	a := p.content()
	if p.framed.sender.Type == SenderMember && !s.VerifyMAC(membershipKey, a.tbm(ctx), p.membershipTag) {
		return nil, invalid("6.2", "membership tag does not verify")
	}
	return a, nil
}
