package cloudmls

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
)

// The authenticated_data of an application message (RFC 9420 section 6.3):
//
//	uint8  version = 1;
//	opaque epoch[16];   /* SHA-256 of the epoch authenticator, cut */
//	opaque place[8];    /* HMAC under it of leaf and generation, cut */
//	opaque rest<...>;   /* the caller's, to the end */
//
// It is covered by the sender's signature. The first field shows forks of a
// group. The second ties the signed content to its place in the sender's
// sequence, which MLS itself does not sign: a member who encrypts somebody's
// content a second time is found out. Both look random to all but members.
const (
	authDataVersion = 1
	epochTagSize    = 16
	placeTagSize    = 8
	authDataFixed   = 1 + epochTagSize + placeTagSize
)

func epochTag(authenticator []byte) []byte {
	h := sha256.Sum256(append([]byte("cloudmls/1 epoch tag"), authenticator...))
	return h[:epochTagSize]
}

func placeTag(authenticator []byte, leaf, generation uint32) []byte {
	h := hmac.New(sha256.New, authenticator)
	h.Write([]byte("cloudmls/1 place tag"))
	h.Write(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, leaf), generation))
	return h.Sum(nil)[:placeTagSize]
}

func authData(authenticator []byte, leaf, generation uint32, aad []byte) []byte {
	b := make([]byte, 0, authDataFixed+len(aad))
	b = append(b, authDataVersion)
	b = append(b, epochTag(authenticator)...)
	b = append(b, placeTag(authenticator, leaf, generation)...)
	return append(b, aad...)
}

// splitAuthData takes authenticated data apart. ok is false for that of other
// programs, which is the caller's as a whole.
func splitAuthData(b []byte) (epoch, place, aad []byte, ok bool) {
	if len(b) < authDataFixed || b[0] != authDataVersion {
		return nil, nil, b, false
	}
	return b[1 : 1+epochTagSize], b[1+epochTagSize : authDataFixed], b[authDataFixed:], true
}
