package mls

import (
	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// confirmedTranscriptHash advances the transcript by a Commit (RFC 9420
// section 8.2).
func confirmedTranscriptHash(s *labeled.Suite, interim []byte, a *authenticatedContent) []byte {
	var w codec.Writer
	w.Uint16(uint16(a.wireFormat))
	a.framed.marshal(&w)
	w.Opaque(a.auth.signature)
	return s.Hash(interim, w.Bytes())
}

// interimTranscriptHash adds the confirmation tag of that Commit.
func interimTranscriptHash(s *labeled.Suite, confirmed, confirmationTag []byte) []byte {
	var w codec.Writer
	w.Opaque(confirmationTag)
	return s.Hash(confirmed, w.Bytes())
}
