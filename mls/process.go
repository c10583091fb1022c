package mls

import (
	"errors"
	"fmt"
	"time"
)

// Received is what Process found: *Application, *ReceivedProposal or
// *ReceivedCommit.
type Received interface{ received() }

// Application is an application message, decrypted and verified.
type Application struct {
	Plaintext         []byte
	AuthenticatedData []byte
	Sender            LeafIndex
	Credential        Credential
	Generation        uint32
	Epoch             Epoch
}

// ReceivedProposal is a valid proposal. It waits in the group for a Commit.
type ReceivedProposal struct {
	Ref      ProposalRef
	Proposal Proposal
	Sender   Sender
}

// ReceivedCommit is a valid Commit. It takes effect with Group.Merge.
type ReceivedCommit struct {
	Staged *StagedCommit
	// Sender is the committer's leaf: the one it joined at, for an external
	// Commit.
	Sender   LeafIndex
	External bool
	// Added, Removed and Updated are the members that change, Updated with
	// their new and Removed with their old contents.
	Added   []Member
	Removed []Member
	Updated []Member
	// Expired are added members whose leaf is outside of its lifetime. The
	// Commit is valid all the same; they may be removed by a later one.
	Expired []LeafIndex
	// SelfRemoved says that this member is no longer in the group.
	SelfRemoved       bool
	AuthenticatedData []byte
}

func (*Application) received()      {}
func (*ReceivedProposal) received() {}
func (*ReceivedCommit) received()   {}

// Process verifies and handles a PublicMessage or PrivateMessage of the
// current epoch. An application message uses up its key; a proposal is kept
// for the next Commit; a Commit changes nothing until it is merged. If Process
// fails, the group is as it was. now decides only about
// ReceivedCommit.Expired.
//
// Errors that say what to do: ErrWrongGroup, ErrStaleEpoch, ErrFutureEpoch,
// ErrReplayed, ErrGenerationTooFar, ErrOwnCommit, ErrNotMember,
// ErrReinitialized, ErrMissingPSK, ErrUnknownProposal; otherwise a
// *ValidationError says which rule the message breaks.
func (g *Group) Process(m *Message, now time.Time) (Received, error) {
	r, err := g.process(m, now)
	if err != nil {
		return nil, fmt.Errorf("process message: %w", err)
	}
	return r, nil
}

func (g *Group) process(m *Message, now time.Time) (Received, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("there is no message")
	}
	id, epoch, ok := m.Group()
	switch {
	case !ok || m.groupInfo != nil:
		return nil, fmt.Errorf("wire format %d is not a message to a group", m.wireFormat)
	case id != g.context.groupID:
		return nil, ErrWrongGroup
	case epoch < g.context.epoch:
		return nil, ErrStaleEpoch
	case epoch > g.context.epoch:
		return nil, ErrFutureEpoch
	}
	a, use, err := g.unprotect(m)
	if err != nil {
		return nil, err
	}
	switch a.framed.contentType {
	case ContentApplication:
		leaf := LeafIndex(a.framed.sender.Index)
		g.keys.consume(use)
		return &Application{
			Plaintext:         a.framed.content.application,
			AuthenticatedData: a.framed.authenticatedData,
			Sender:            leaf,
			Credential:        g.tree.leaf(leaf).credential,
			Generation:        use.generation,
			Epoch:             g.context.epoch,
		}, nil
	case ContentProposal:
		p, err := g.receiveProposal(a)
		if err == nil && use != nil {
			g.keys.consume(use)
		}
		return received(p, err)
	default:
		c, err := g.receiveCommit(a, now)
		return received(c, err)
	}
}

// received avoids a non-nil interface around a nil pointer.
func received[R Received](r R, err error) (Received, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}

// unprotect decrypts a message and verifies membership and signature. The key
// use is nil for a PublicMessage; it is not consumed.
func (g *Group) unprotect(m *Message) (a *authenticatedContent, use *keyUse, err error) {
	if m.private != nil {
		a, use, err = g.decrypt(m.private)
	} else {
		a, err = openPublic(g.suite, g.secrets.membership, m.public, &g.context)
	}
	if err != nil {
		return nil, nil, err
	}
	key, err := g.senderKey(a)
	if err != nil {
		return nil, nil, err
	}
	if err := a.verify(g.suite, key, &g.context); err != nil {
		return nil, nil, err
	}
	return a, use, nil
}

func (g *Group) decrypt(p *privateMessage) (*authenticatedContent, *keyUse, error) {
	d, err := openSenderData(g.suite, g.secrets.senderData, p)
	if err != nil {
		return nil, nil, err
	}
	// RFC 9420 section 6.3.2: the sender's leaf is not blank.
	if g.tree.leaf(d.leaf) == nil {
		return nil, nil, invalidBecause("6.3.2", "sender", ErrNotMember)
	}
	use, err := g.keys.use(g.suite, d.leaf, ratchetFor(p.contentType), d.generation, MaxGenerationJump)
	if err != nil {
		return nil, nil, err
	}
	a, err := openPrivate(g.suite, p, use.messageKey, d)
	return a, use, err
}

// senderKey returns the key that must have signed the content (RFC 9420
// section 6.1).
func (g *Group) senderKey(a *authenticatedContent) ([]byte, error) {
	f := &a.framed
	switch f.sender.Type {
	case SenderMember:
		leaf := g.tree.leaf(LeafIndex(f.sender.Index))
		if leaf == nil {
			return nil, invalidBecause("6.1", "sender", ErrNotMember)
		}
		return leaf.signatureKey, nil
	case SenderExternal:
		if f.contentType != ContentProposal || !f.content.proposal.Type().externalAllowed() {
			return nil, invalid("12.1.8", "external sender must not send this")
		}
		data, _ := findExtension(g.context.extensions, ExtensionExternalSenders)
		senders, err := parseExternalSenders(data)
		if err != nil || uint64(f.sender.Index) >= uint64(len(senders)) {
			return nil, invalid("12.1.8", "external sender is not in the external_senders extension")
		}
		return senders[f.sender.Index].SignatureKey, nil
	case SenderNewMemberProposal:
		if add, ok := f.content.proposal.(*Add); ok && f.contentType == ContentProposal {
			return add.KeyPackage.leaf.signatureKey, nil
		}
		return nil, invalid("6.1", "new member proposes something else than to be added")
	default: // SenderNewMemberCommit; the decoder knows no others
		if f.contentType == ContentCommit && f.content.commit.path != nil {
			return f.content.commit.path.leaf.signatureKey, nil
		}
		return nil, invalid("12.4.3.2", "external commit has no path")
	}
}

// receiveProposal checks a proposal and keeps it (RFC 9420 section 12.1).
func (g *Group) receiveProposal(a *authenticatedContent) (*ReceivedProposal, error) {
	p := pendingProposal{
		ref: a.ref(g.suite), proposal: a.framed.content.proposal, sender: a.framed.sender,
		size: len(encode(a.framed.content.proposal)),
	}
	size := p.size
	for _, q := range g.proposals {
		if q.ref == p.ref {
			return nil, ErrReplayed
		}
		size += q.size
	}
	if len(g.proposals) >= MaxPendingProposals || size > MaxPendingSize {
		return nil, invalid("12.1", "too many proposals are pending")
	}
	if p.proposal.Type() == ProposalExternalInit {
		return nil, invalid("12.1.6", "external_init outside of an external commit")
	}
	if err := g.checkProposal(p.proposal, p.sender); err != nil {
		return nil, err
	}
	g.proposals = append(g.proposals, p)
	return &ReceivedProposal{Ref: p.ref, Proposal: p.proposal, Sender: p.sender}, nil
}
