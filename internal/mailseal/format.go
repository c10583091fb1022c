package mailseal

import (
	"crypto/sha256"
	"errors"
	"math/bits"
)

// Names and sizes of the format.
const (
	// ControlType is the media type of the control part, and the protocol
	// parameter of the multipart/encrypted.
	ControlType = "application/vnd.cloudmls.control"
	// BulkType is the media type of the bulk part.
	BulkType = "application/octet-stream"
	// ConversationField names the outer header field with the conversation id.
	ConversationField = "CloudMLS-Conversation"
	// StatusField names the header field that views begin with.
	StatusField = "CloudMLS-Status"

	// InlineMax is the size in octets up to which a message travels inside
	// the control record.
	InlineMax = 48 << 10
	// ChunkSize is the number of plaintext octets under one hash, and in one
	// chunk of an age file.
	ChunkSize = 64 << 10
	// MaxSize is the largest inner message, in octets.
	MaxSize = 256 << 20
	// MaxControl is the largest control record, in octets.
	MaxControl = 1 << 20
	// maxControlPart is the largest content of a control part: the record with
	// padding and framing around it.
	maxControlPart = 2 * MaxControl
)

// Errors that callers tell apart.
var (
	// ErrCorrupt is wrapped by every error that says the octets are not what
	// the sender sealed: tampered with, truncated, swapped, or sealed wrongly
	// in the first place. No octet that fails a check is ever released.
	ErrCorrupt = errors.New("sealed message is corrupt")
	// ErrVersion says that a control record is of a later format.
	ErrVersion = errors.New("control record has an unknown version")
	// ErrTooLarge says that a message is beyond MaxSize.
	ErrTooLarge = errors.New("message is too large to seal")
	// ErrNotSealable says that a message cannot be sealed as it is: it is
	// empty, or its header begins with a continuation line.
	ErrNotSealable = errors.New("message cannot be sealed")
	// ErrOuter says that a value for the outer header is not fit for it.
	ErrOuter = errors.New("value is not fit for the outer header")
)

// Kind says why a message was sealed.
type Kind uint8

// The kinds of sealed messages.
const (
	KindMessage Kind = 1 // to the people of a conversation
	KindSelf    Kind = 2 // a draft or other upload, for the own account only
	KindBlind   Kind = 3 // the copy of one blind recipient
)

func (k Kind) valid() bool { return k >= KindMessage && k <= KindBlind }

// Ref returns the reference of a sealed message: SHA-256 of the content of its
// control part (decoded, still encrypted).
func Ref(control []byte) [32]byte { return sha256.Sum256(control) }

// paddedSize rounds a size up to one of few (Padmé: Nikitin et al., "Reducing
// Metadata Leakage from Encrypted Files and Communication with PURBs", section
// 4): the number of octets before encryption. It grows by less than 1/16 above
// InlineMax.
func paddedSize(n int64) int64 {
	if n < 2 {
		return n
	}
	e := bits.Len64(uint64(n)) - 1
	s := bits.Len64(uint64(e))
	mask := int64(1)<<(e-s) - 1
	return (n + mask) &^ mask
}

func chunks(n int64) int64 { return (n + ChunkSize - 1) / ChunkSize }

// MaxInner returns the size of the largest message whose sealed form fits a
// provider's limit for a whole message, both in octets; 0 for no limit.
func MaxInner(limit int64) int64 {
	if limit <= 0 || limit > 4*MaxSize {
		return MaxSize
	}
	const headers = 64 << 10 // outer header, and a control part of ordinary size
	raw := max(0, limit-headers) / 78 * 57
	raw -= raw / 256 // hashes and age framing
	return max(0, min(raw-raw/16, MaxSize))
}
