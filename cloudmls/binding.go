package cloudmls

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/mls"
)

// extensionBinding is the GroupContext extension (private use, RFC 9420
// section 17.3) that binds a group to the conversation it serves. It is set
// when the group is created and never changes.
const extensionBinding mls.ExtensionType = 0xF0C1

const (
	bindingVersion = 1
	maxOrigin      = 1024 // octets of a key server's name
)

// binding is the content of the extension:
//
//	uint8  version = 1;
//	uint8  kind;                 /* 1 dialog, 2 group, 3 self */
//	opaque conversation[16];
//	opaque origin<0..2^16-1>;    /* of the delivery service */
//	uint8  history;              /* 0 for ever, 1 days */
//	uint32 days;                 /* 0 for ever */
type binding struct {
	kind         Kind
	conversation ConversationID
	origin       string
	days         uint32 // 0: history is kept for ever
}

func (b binding) marshal() []byte {
	out := []byte{bindingVersion, byte(b.kind)}
	out = append(out, b.conversation[:]...)
	out = binary.BigEndian.AppendUint16(out, uint16(len(b.origin)))
	out = append(out, b.origin...)
	policy := byte(0)
	if b.days != 0 {
		policy = 1
	}
	return binary.BigEndian.AppendUint32(append(out, policy), b.days)
}

var errBinding = errors.New("conversation binding (extension 0xF0C1)")

// parseBinding reads exactly what marshal writes.
func parseBinding(p []byte) (binding, error) {
	var b binding
	fail := func(why string) (binding, error) { return binding{}, fmt.Errorf("%w: %s", errBinding, why) }
	const fixed = 2 + len(b.conversation) + 2
	if len(p) < fixed {
		return fail("cut short")
	}
	if p[0] != bindingVersion {
		return fail(fmt.Sprintf("version %d", p[0]))
	}
	b.kind = Kind(p[1])
	if b.kind < KindDialog || b.kind > KindSelf {
		return fail(fmt.Sprintf("kind %d", p[1]))
	}
	copy(b.conversation[:], p[2:])
	if b.conversation.IsZero() {
		return fail("zero conversation id")
	}
	n := int(binary.BigEndian.Uint16(p[fixed-2:]))
	if n > maxOrigin || len(p) != fixed+n+5 {
		return fail("length")
	}
	b.origin = string(p[fixed : fixed+n])
	policy := p[fixed+n]
	b.days = binary.BigEndian.Uint32(p[fixed+n+1:])
	if policy > 1 || (policy == 1) != (b.days != 0) {
		return fail("history policy")
	}
	return b, nil
}

// commitToken is what the next Commit must show to the delivery service: only
// the members of this epoch can derive it (RFC 9420 section 8.5). Its hash is
// registered when the epoch is opened.
func commitToken(g *mls.Group) ([]byte, error) {
	context, _ := g.Extension(extensionBinding)
	token, err := g.Export("cloudmls/1 commit token", context, 32)
	if err != nil {
		return nil, fmt.Errorf("derive commit token: %w", err)
	}
	return token, nil
}

func commitTokenHash(g *mls.Group) ([]byte, error) {
	token, err := commitToken(g)
	if err != nil {
		return nil, err
	}
	h := sha256.Sum256(token)
	return h[:], nil
}
