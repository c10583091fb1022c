package mls

import (
	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// confirmedTranscriptHash advances the transcript by a Commit (RFC 9420
// section 8.2).
func confirmedTranscriptHash(s *labeled.Suite, interim []byte, a *authenticatedContent) []byte {
	var head, tail codec.Writer
	head.Uint16(uint16(a.wireFormat))
	octets := a.framed.marshalHead(&head)
	tail.Opaque(a.auth.signature)
	return s.Hash(interim, head.Bytes(), octets, tail.Bytes())
}

// interimTranscriptHash adds the confirmation tag of that Commit.
func interimTranscriptHash(s *labeled.Suite, confirmed, confirmationTag []byte) []byte {
	var w codec.Writer
	w.Opaque(confirmationTag)
	return s.Hash(confirmed, w.Bytes())
}
