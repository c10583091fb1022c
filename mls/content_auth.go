package mls

import (
	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// framedTBS is FramedContentTBS (RFC 9420 section 6.1), in parts. The context
// counts for members and for external Commits.
func (a *authenticatedContent) framedTBS(ctx *groupContext) [][]byte {
	var head, tail codec.Writer
	head.Grow(512 + len(a.framed.content.application))
	head.Uint16(uint16(MLS10))
	head.Uint16(uint16(a.wireFormat))
	octets := a.framed.marshalHead(&head)
	w := &head
	if octets != nil {
		w = &tail
	}
	if t := a.framed.sender.Type; t == SenderMember || t == SenderNewMemberCommit {
		ctx.marshal(w)
	}
	if octets == nil {
		return [][]byte{head.Bytes()}
	}
	return [][]byte{head.Bytes(), octets, tail.Bytes()}
}

// sign signs the content.
func (a *authenticatedContent) sign(s *labeled.Suite, sig SignaturePrivateKey, ctx *groupContext) error {
	signature, err := s.Sign(sig, "FramedContentTBS", a.framedTBS(ctx)...)
	if err != nil {
		return err
	}
	a.auth.signature = signature
	return nil
}

// verify checks the signature of the content (RFC 9420 section 6.1).
func (a *authenticatedContent) verify(s *labeled.Suite, key []byte, ctx *groupContext) error {
	if err := s.VerifyParts(key, "FramedContentTBS", a.auth.signature, a.framedTBS(ctx)...); err != nil {
		return invalidBecause("6.1", "message signature", err)
	}
	return nil
}

// ref returns the reference of a proposal (RFC 9420 section 5.2).
func (a *authenticatedContent) ref(s *labeled.Suite) ProposalRef {
	return ProposalRef(s.RefHash("MLS 1.0 Proposal Reference", encode(a)))
}

// confirmationTag is the tag of a Commit that leads to the given epoch.
func (e *epochSecrets) confirmationTag(s *labeled.Suite, confirmedTranscriptHash []byte) []byte {
	return s.MAC(e.confirmation, confirmedTranscriptHash)
}
