package mls

import (
	"bytes"
	"fmt"
)

// ProtectOptions say how an application message is protected.
type ProtectOptions struct {
	// AuthenticatedData travels in clear with the message.
	AuthenticatedData []byte
	// Padding maps the size of the content to the size that it is padded to;
	// nil means no padding.
	Padding func(n int) int
	// Generation is the application generation to use; nil means the next one
	// of the group's ratchet. Whoever sets it makes sure that no generation of
	// an epoch is used twice, on any device.
	Generation *uint32
	// ReuseGuard is the reuse guard; nil means four random bytes.
	ReuseGuard *[4]byte
}

// Protect signs and encrypts an application message (RFC 9420 section 15). It
// uses up the ratchet's next generation; with ProtectOptions.Generation the
// group stays as it is. It fails with ErrCommitRequired while proposals wait,
// and with ErrGenerationTooFar when MaxGeneration messages were sent in the
// epoch. The group must be stored before the message is sent.
func (g *Group) Protect(plaintext []byte, o ProtectOptions) (*Message, error) {
	if err := g.usable(); err != nil {
		return nil, fmt.Errorf("protect: %w", err)
	}
	// RFC 9420 section 12.4: proposals are committed before data is sent.
	if len(g.proposals) > 0 {
		return nil, fmt.Errorf("protect: %w", ErrCommitRequired)
	}
	a := applicationContent(&g.context, g.own, plaintext, o.AuthenticatedData)
	if err := a.sign(g.suite, g.signature, &g.context); err != nil {
		return nil, fmt.Errorf("protect: %w", err)
	}
	p, use, err := g.sealOwn(a, o.Generation, o.ReuseGuard, o.Padding)
	if err != nil {
		return nil, fmt.Errorf("protect: %w", err)
	}
	if o.Generation == nil {
		g.keys.consume(use)
	}
	return &Message{wireFormat: WirePrivateMessage, private: p}, nil
}

// applicationContent is an application message of a member, to be signed.
func applicationContent(ctx *groupContext, own LeafIndex, plaintext, authenticatedData []byte) *authenticatedContent {
	return &authenticatedContent{
		wireFormat: WirePrivateMessage,
		framed: framedContent{
			groupID:           ctx.groupID,
			epoch:             ctx.epoch,
			sender:            Sender{Type: SenderMember, Index: uint32(own)},
			authenticatedData: bytes.Clone(authenticatedData),
			contentType:       ContentApplication,
			content:           content{application: plaintext},
		},
	}
}

// sealOwn encrypts content signed by this member. The key use that it returns
// is not consumed.
func (g *Group) sealOwn(a *authenticatedContent, generation *uint32, guard *[4]byte, padding func(int) int) (*privateMessage, *keyUse, error) {
	kind := ratchetFor(a.framed.contentType)
	n := g.keys.next(g.own, kind)
	if generation != nil {
		n = *generation
	}
	use, err := g.keys.use(g.suite, g.own, kind, n, MaxGeneration)
	if err != nil {
		return nil, nil, err
	}
	d := senderData{leaf: g.own, generation: n}
	copy(d.guard[:], randomBytes(len(d.guard)))
	if guard != nil {
		d.guard = *guard
	}
	p, err := sealPrivate(g.suite, g.secrets.senderData, a, use.messageKey, d, padding)
	return p, use, err
}
