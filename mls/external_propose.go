package mls

import (
	"bytes"
	"errors"
	"fmt"
)

// ExternalProposalOptions are what a proposal from outside takes (RFC 9420
// section 12.1.8).
type ExternalProposalOptions struct {
	GroupID     GroupID
	Epoch       Epoch
	CipherSuite CipherSuite // of the group
	Proposal    Proposal
	// Sender is the position in the group's external_senders extension.
	Sender            uint32
	SignatureKey      SignaturePrivateKey
	AuthenticatedData []byte
}

// ProposeExternally makes a proposal to a group by one of its external senders,
// as PublicMessage. The members keep it; their applications decide whether it
// is committed (CommitOptions.Select).
func ProposeExternally(o ExternalProposalOptions) (*Message, error) {
	if err := checkGiven(o.Proposal); err != nil {
		return nil, fmt.Errorf("propose externally: %w", err)
	}
	if !o.Proposal.Type().externalAllowed() {
		return nil, fmt.Errorf("propose externally: proposal type %d is not allowed", o.Proposal.Type())
	}
	m, err := proposeOutside(&o, Sender{Type: SenderExternal, Index: o.Sender})
	if err != nil {
		return nil, fmt.Errorf("propose externally: %w", err)
	}
	return m, nil
}

// NewMemberProposalOptions are what proposing to be added takes.
type NewMemberProposalOptions struct {
	GroupID GroupID
	Epoch   Epoch
	// Secrets of the KeyPackage that is proposed, of the group's suite.
	Secrets           *KeyPackageSecrets
	AuthenticatedData []byte
}

// ProposeNewMember makes a proposal to add the caller to a group (RFC 9420
// section 12.1.8), as PublicMessage. The members' CredentialValidator is asked
// about it, and their applications decide whether it is committed.
func ProposeNewMember(o NewMemberProposalOptions) (*Message, error) {
	if o.Secrets == nil {
		return nil, errors.New("propose new member: key package secrets are required")
	}
	kp := o.Secrets.keyPackage
	m, err := proposeOutside(&ExternalProposalOptions{
		GroupID: o.GroupID, Epoch: o.Epoch, CipherSuite: kp.suite, Proposal: &Add{KeyPackage: kp},
		SignatureKey: o.Secrets.signaturePrivate, AuthenticatedData: o.AuthenticatedData,
	}, Sender{Type: SenderNewMemberProposal})
	if err != nil {
		return nil, fmt.Errorf("propose new member: %w", err)
	}
	return m, nil
}

func proposeOutside(o *ExternalProposalOptions, sender Sender) (*Message, error) {
	s, err := o.CipherSuite.suite()
	if err != nil {
		return nil, err
	}
	if len(o.GroupID) > maxGroupID {
		return nil, fmt.Errorf("group id of %d bytes, at most %d are allowed", len(o.GroupID), maxGroupID)
	}
	a := &authenticatedContent{
		wireFormat: WirePublicMessage,
		framed: framedContent{
			groupID: o.GroupID, epoch: o.Epoch, sender: sender,
			authenticatedData: bytes.Clone(o.AuthenticatedData),
			contentType:       ContentProposal,
			content:           content{proposal: o.Proposal},
		},
	}
	// The signature of an outsider does not cover the GroupContext.
	if err := a.sign(s, o.SignatureKey, nil); err != nil {
		return nil, err
	}
	p, err := sealPublic(s, nil, a, nil)
	if err != nil {
		return nil, err
	}
	return &Message{wireFormat: WirePublicMessage, public: p}, nil
}
