package mls

import (
	"bytes"
	"errors"
	"fmt"
)

// ProposeOptions say how a proposal is sent.
type ProposeOptions struct {
	AuthenticatedData []byte
	// Padding, Generation and ReuseGuard are as in CommitOptions.
	Padding    func(n int) int
	Generation *uint32
	ReuseGuard *[4]byte
	// Public sends the proposal as PublicMessage: signed, not encrypted.
	Public bool
}

// Propose makes a proposal message for the group (RFC 9420 section 12.1). The
// proposal also waits in this group. An Update is made by ProposeUpdate. Whoever
// proposes an Add verifies the KeyPackage before (KeyPackage.Verify): there is no
// clock here to hold against its lifetime.
func (g *Group) Propose(p Proposal, o ProposeOptions) (*Message, error) {
	m, _, err := g.propose(p, &o)
	if err != nil {
		return nil, fmt.Errorf("propose: %w", err)
	}
	return m, nil
}

// UpdateOptions say what an own Update changes besides the encryption key.
type UpdateOptions struct {
	ProposeOptions
	NewSignatureKey SignaturePrivateKey
	NewCredential   *Credential
}

// ProposeUpdate proposes to replace this member's leaf by one with fresh keys
// (RFC 9420 section 12.1.2). The private keys are kept until the epoch ends.
func (g *Group) ProposeUpdate(o UpdateOptions) (*Message, error) {
	m, err := g.proposeUpdate(&o)
	if err != nil {
		return nil, fmt.Errorf("propose update: %w", err)
	}
	return m, nil
}

func (g *Group) proposeUpdate(o *UpdateOptions) (*Message, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	leaf := *g.tree.leaf(g.own)
	leaf.source, leaf.lifetime, leaf.parentHash = sourceUpdate, Lifetime{}, nil
	keys := pendingUpdate{signature: g.signature}
	var err error
	if o.NewSignatureKey != nil {
		keys.signature = bytes.Clone(o.NewSignatureKey)
		if leaf.signatureKey, err = g.suite.SignaturePublicKey(keys.signature); err != nil {
			return nil, fmt.Errorf("new signature key: %w", err)
		}
	}
	if o.NewCredential != nil {
		leaf.credential = *o.NewCredential
	}
	if keys.encryption, leaf.encryptionKey, err = g.suite.GenerateKeyPair(); err != nil {
		return nil, err
	}
	if err := leaf.sign(g.suite, keys.signature, g.context.groupID, g.own); err != nil {
		return nil, err
	}
	m, ref, err := g.propose(&Update{leaf: leaf}, &o.ProposeOptions)
	if err != nil {
		return nil, err
	}
	g.updates[ref] = keys
	return m, nil
}

func (g *Group) propose(p Proposal, o *ProposeOptions) (*Message, ProposalRef, error) {
	if err := g.usable(); err != nil {
		return nil, "", err
	}
	if err := checkGiven(p); err != nil {
		return nil, "", err
	}
	a := &authenticatedContent{
		wireFormat: handshakeFormat(o.Public),
		framed: framedContent{
			groupID:           g.context.groupID,
			epoch:             g.context.epoch,
			sender:            Sender{Type: SenderMember, Index: uint32(g.own)},
			authenticatedData: bytes.Clone(o.AuthenticatedData),
			contentType:       ContentProposal,
			content:           content{proposal: p},
		},
	}
	if err := a.sign(g.suite, g.signature, &g.context); err != nil {
		return nil, "", err
	}
	message, use, err := g.sealHandshake(a, o.Generation, o.ReuseGuard, o.Padding)
	if err != nil {
		return nil, "", err
	}
	pending, err := g.receiveProposal(a)
	if errors.Is(err, ErrReplayed) {
		// The same proposal, sent in public and with a signature that does not
		// vary, waits already: this is the same message again.
		return message, a.ref(g.suite), nil
	}
	if err != nil {
		return nil, "", err
	}
	if o.Generation == nil && use != nil {
		g.keys.consume(use)
	}
	return message, pending.Ref, nil
}

func handshakeFormat(public bool) WireFormat {
	if public {
		return WirePublicMessage
	}
	return WirePrivateMessage
}

// sealHandshake makes the message of signed content of this member, by its wire
// format. The key use is nil for a PublicMessage; it is not consumed.
func (g *Group) sealHandshake(a *authenticatedContent, generation *uint32, guard *[4]byte, padding func(int) int) (*Message, *keyUse, error) {
	if a.wireFormat == WirePublicMessage {
		p, err := sealPublic(g.suite, g.secrets.membership, a, &g.context)
		if err != nil {
			return nil, nil, err
		}
		m := &Message{wireFormat: WirePublicMessage, public: p}
		if n := len(encode(m)); n > MaxMessage {
			return nil, nil, fmt.Errorf("message of %d bytes, at most %d are allowed", n, MaxMessage)
		}
		return m, nil, nil
	}
	p, use, err := g.sealOwn(a, generation, guard, padding)
	if err != nil {
		return nil, nil, err
	}
	return &Message{wireFormat: WirePrivateMessage, private: p}, use, nil
}
