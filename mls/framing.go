package mls

import (
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// ContentType says what a PublicMessage or PrivateMessage carries (RFC 9420
// section 6).
type ContentType uint8

// Content types.
const (
	ContentApplication ContentType = 1
	ContentProposal    ContentType = 2
	ContentCommit      ContentType = 3
)

// SenderType says who made a message (RFC 9420 section 6).
type SenderType uint8

// Sender types.
const (
	SenderMember            SenderType = 1
	SenderExternal          SenderType = 2
	SenderNewMemberProposal SenderType = 3
	SenderNewMemberCommit   SenderType = 4
)

// Sender is who made a message. Index is the leaf of a member, or the position
// in the external_senders extension of an external sender.
type Sender struct {
	Type  SenderType
	Index uint32
}

func (s *Sender) marshal(w *codec.Writer) {
	w.Uint8(uint8(s.Type))
	if s.Type == SenderMember || s.Type == SenderExternal {
		w.Uint32(s.Index)
	}
}

func (s *Sender) unmarshal(r *codec.Reader) {
	s.Type = SenderType(r.Uint8())
	switch s.Type {
	case SenderMember, SenderExternal:
		s.Index = r.Uint32()
	case SenderNewMemberProposal, SenderNewMemberCommit:
	default:
		r.Fail(fmt.Errorf("unknown sender type %d", s.Type))
	}
}

// content is the part of a message that differs by ContentType: exactly the
// field of its type is set.
type content struct {
	application []byte
	proposal    Proposal
	commit      *commit
}

func (c *content) marshal(w *codec.Writer, t ContentType) {
	switch t {
	case ContentApplication:
		w.Opaque(c.application)
	case ContentProposal:
		writeProposal(w, c.proposal)
	case ContentCommit:
		c.commit.marshal(w)
	}
}

func (c *content) unmarshal(r *codec.Reader, t ContentType) {
	switch t {
	case ContentApplication:
		c.application = r.Opaque()
	case ContentProposal:
		c.proposal = readProposal(r)
	case ContentCommit:
		c.commit = new(commit)
		c.commit.unmarshal(r)
	default:
		r.Fail(fmt.Errorf("unknown content type %d", t))
	}
}

// framedContent is FramedContent (RFC 9420 section 6).
type framedContent struct {
	groupID           GroupID
	epoch             Epoch
	sender            Sender
	authenticatedData []byte
	contentType       ContentType
	content           content
}

func (f *framedContent) marshal(w *codec.Writer) {
	octets := f.marshalHead(w)
	w.Grow(len(octets) + 256) // and the signature that comes after it
	w.Raw(octets)
}

// marshalHead writes all but a Commit, whose octets it returns: they may be most
// of a megabyte, and are better not copied.
func (f *framedContent) marshalHead(w *codec.Writer) (commit []byte) {
	w.Opaque([]byte(f.groupID))
	w.Uint64(uint64(f.epoch))
	f.sender.marshal(w)
	w.Opaque(f.authenticatedData)
	w.Uint8(uint8(f.contentType))
	if f.contentType == ContentCommit {
		return f.content.commit.encoded()
	}
	f.content.marshal(w, f.contentType)
	return nil
}

func (f *framedContent) unmarshal(r *codec.Reader) {
	f.groupID = GroupID(r.OpaqueMax(maxGroupID))
	f.epoch = Epoch(r.Uint64())
	f.sender.unmarshal(r)
	f.authenticatedData = r.Opaque()
	f.contentType = ContentType(r.Uint8())
	f.content.unmarshal(r, f.contentType)
}

// authData is FramedContentAuthData (RFC 9420 section 6.1).
type authData struct {
	signature       []byte
	confirmationTag []byte // of a Commit
}

func (a *authData) marshal(w *codec.Writer, t ContentType) {
	w.Opaque(a.signature)
	if t == ContentCommit {
		w.Opaque(a.confirmationTag)
	}
}

func (a *authData) unmarshal(r *codec.Reader, t ContentType) {
	a.signature = r.OpaqueMax(maxKey)
	if t == ContentCommit {
		a.confirmationTag = r.OpaqueMax(maxHash)
	}
}

// authenticatedContent is AuthenticatedContent (RFC 9420 section 6).
type authenticatedContent struct {
	wireFormat WireFormat
	framed     framedContent
	auth       authData
}

func (a *authenticatedContent) marshal(w *codec.Writer) {
	w.Uint16(uint16(a.wireFormat))
	a.framed.marshal(w)
	a.auth.marshal(w, a.framed.contentType)
}

func (a *authenticatedContent) unmarshal(r *codec.Reader) {
	a.wireFormat = WireFormat(r.Uint16())
	a.framed.unmarshal(r)
	a.auth.unmarshal(r, a.framed.contentType)
}
