package mls

import (
	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// framedTBS is FramedContentTBS (RFC 9420 section 6.1). The context counts for
// members and for external Commits.
func (a *authenticatedContent) framedTBS(ctx *groupContext) []byte {
	var w codec.Writer
	w.Uint16(uint16(MLS10))
	w.Uint16(uint16(a.wireFormat))
	a.framed.marshal(&w)
	if t := a.framed.sender.Type; t == SenderMember || t == SenderNewMemberCommit {
		ctx.marshal(&w)
	}
	return w.Bytes()
}

// sign signs the content.
func (a *authenticatedContent) sign(s *labeled.Suite, sig SignaturePrivateKey, ctx *groupContext) error {
	signature, err := s.Sign(sig, "FramedContentTBS", a.framedTBS(ctx))
	if err != nil {
		return err
	}
	a.auth.signature = signature
	return nil
}

// verify checks the signature of the content (RFC 9420 section 6.1).
func (a *authenticatedContent) verify(s *labeled.Suite, key []byte, ctx *groupContext) error {
	if err := s.Verify(key, "FramedContentTBS", a.framedTBS(ctx), a.auth.signature); err != nil {
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
