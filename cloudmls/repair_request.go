package cloudmls

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
)

// repairRequest is how a member who lost track of a group asks the others to let
// it in again. It is a notice (keyapi.DeliveryNotice), signed by the identity
// key of the account, for the keys of the group are what the account may have
// lost:
//
//	opaque magic[4] = "CMRR";
//	uint8  version = 1;
//	uint8  reason;
//	opaque origin<0..1024>;        /* uint16 length, as those below */
//	opaque platform<1..1024>;
//	opaque account<1..1024>;
//	opaque conversation[16];
//	opaque group<1..255>;
//	opaque serving<0..255>;        /* the group that took its place; empty: none */
//	uint64 epoch;                  /* the last one that the account holds */
//	opaque commit[32];             /* SHA-256 of the Commit it cannot follow; zeros: none came */
//	opaque signature[64];          /* Ed25519 over "cloudmls/1 repair request" and all before */
type repairRequest struct {
	reason       repairReason
	origin       string
	account      Account
	conversation ConversationID
	group        []byte
	// serving is the group that the key server names for the conversation, where
	// it is another one: who was let into that since asked for nothing any more.
	serving []byte
	epoch   uint64
	commit  [32]byte
}

// repairReason is a ProblemKind on the wire.
type repairReason uint8

// repairLeave is the reason of a member who does not want to be let in again,
// but to be removed.
const repairLeave repairReason = 0x80

const (
	repairMagic   = "CMRR"
	repairVersion = 1
	repairLabel   = "cloudmls/1 repair request"
	maxRepairText = 1024 // octets of each text
)

var repairReasons = map[repairReason]ProblemKind{
	1: ProblemGarbage, 2: ProblemForbidden, 3: ProblemGap, 4: ProblemLostState, 5: ProblemTooLarge, 6: ProblemWithheld, 7: ProblemUnknownGroup,
}

// reasonOf gives the code of a kind of problem; 0 for another one.
func reasonOf(kind ProblemKind) repairReason {
	for r, k := range repairReasons {
		if k == kind {
			return r
		}
	}
	return 0
}

var errRepairRequest = errors.New("repair request")

func (r *repairRequest) marshal() []byte {
	b := append([]byte(repairMagic), repairVersion, byte(r.reason))
	for _, s := range []string{r.origin, r.account.Platform, r.account.ID} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	b = append(b, r.conversation[:]...)
	for _, group := range [][]byte{r.group, r.serving} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(group)))
		b = append(b, group...)
	}
	b = binary.BigEndian.AppendUint64(b, r.epoch)
	return append(b, r.commit[:]...)
}

// sign gives the request as it is sent.
func (r *repairRequest) sign(identity ed25519.PrivateKey) []byte {
	b := r.marshal()
	return append(b, ed25519.Sign(identity, append([]byte(repairLabel), b...))...)
}

// isRepairRequest tells one from an MLSMessage, which begins with a version
// number.
func isRepairRequest(b []byte) bool { return len(b) >= 4 && string(b[:4]) == repairMagic }

// parseRepairRequest reads exactly what sign gives. The signature is checked by
// verify, once it is known whose it must be.
func parseRepairRequest(b []byte) (*repairRequest, []byte, error) {
	fail := func(why string) (*repairRequest, []byte, error) {
		return nil, nil, fmt.Errorf("%w: %s", errRepairRequest, why)
	}
	if !isRepairRequest(b) || len(b) < 6 {
		return fail("cut short")
	}
	if b[4] != repairVersion {
		return fail(fmt.Sprintf("version %d", b[4]))
	}
	r := &repairRequest{reason: repairReason(b[5])}
	rest := b[6:]
	text := func() ([]byte, bool) {
		if len(rest) < 2 {
			return nil, false
		}
		n := int(binary.BigEndian.Uint16(rest))
		if n > maxRepairText || len(rest) < 2+n {
			return nil, false
		}
		s := rest[2 : 2+n]
		rest = rest[2+n:]
		return s, true
	}
	var texts [3]string
	for i := range texts {
		s, ok := text()
		if !ok {
			return fail("length of a text")
		}
		texts[i] = string(s)
	}
	r.origin, r.account = texts[0], Account{Platform: texts[1], ID: texts[2]}
	if a, err := canonical(r.account); err != nil || a != r.account {
		return fail("the account is not in canonical form")
	}
	if len(rest) < len(r.conversation) {
		return fail("cut short")
	}
	rest = rest[copy(r.conversation[:], rest):]
	group, _ := text()
	if len(group) == 0 || len(group) > 255 {
		return fail("length of the group id")
	}
	serving, ok := text()
	if !ok || len(serving) > 255 {
		return fail("length of the serving group's id")
	}
	r.group, r.serving = group, serving
	if len(rest) != 8+len(r.commit)+ed25519.SignatureSize {
		return fail("length")
	}
	r.epoch = binary.BigEndian.Uint64(rest)
	copy(r.commit[:], rest[8:])
	return r, b[len(b)-ed25519.SignatureSize:], nil
}

func (r *repairRequest) verify(identity, signature []byte) bool {
	return len(identity) == ed25519.PublicKeySize &&
		ed25519.Verify(identity, append([]byte(repairLabel), r.marshal()...), signature)
}
