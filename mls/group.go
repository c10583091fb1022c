package mls

import (
	"bytes"
	"maps"
	"slices"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// Group is one member's state of one group in one epoch (RFC 9420 section 11).
// It holds secrets of the current epoch only. It is not safe for concurrent
// use; clones are independent.
type Group struct {
	suite           *labeled.Suite
	context         groupContext
	tree            *ratchetTree // complete with hashes, never changed
	interim         []byte       // interim transcript hash
	confirmationTag []byte       // of the Commit that began the epoch
	own             LeafIndex
	signature       SignaturePrivateKey
	private         privateKeys
	secrets         epochSecrets
	keys            *secretTree
	proposals       []pendingProposal
	updates         map[ProposalRef]pendingUpdate
	reinit          *ReInit // set by the Commit that began the epoch
	left            bool    // this member was removed
	validate        CredentialValidator
	psks            PSKSource
	external        bool // external Commits are accepted
}

// pendingProposal is a proposal that was received, or sent, in this epoch.
type pendingProposal struct {
	ref      ProposalRef
	proposal Proposal
	sender   Sender
	size     int // of the encoded proposal, in bytes
}

// pendingUpdate are the private keys of an own Update.
type pendingUpdate struct {
	encryption []byte
	signature  SignaturePrivateKey
}

// Member is one member of a group. Its slices must not be changed.
type Member struct {
	Leaf          LeafIndex
	Credential    Credential
	SignatureKey  []byte
	EncryptionKey []byte // nil in an ArchiveRecord
}

// Clone returns an independent copy. If both encrypt, they use the same keys:
// only one of them may send.
func (g *Group) Clone() *Group {
	c := *g
	c.private = maps.Clone(g.private)
	c.keys = g.keys.clone()
	c.proposals = slices.Clone(g.proposals)
	c.updates = maps.Clone(g.updates)
	return &c
}

// ID returns the id of the group.
func (g *Group) ID() GroupID { return g.context.groupID }

// Epoch returns the current epoch.
func (g *Group) Epoch() Epoch { return g.context.epoch }

// CipherSuite returns the suite of the group.
func (g *Group) CipherSuite() CipherSuite { return g.context.suite }

// OwnLeaf returns the position of this member.
func (g *Group) OwnLeaf() LeafIndex { return g.own }

// Extensions returns the extensions of the GroupContext.
func (g *Group) Extensions() []Extension { return cloneExtensions(g.context.extensions) }

// Extension returns the data of one extension of the GroupContext.
func (g *Group) Extension(t ExtensionType) (data []byte, ok bool) {
	data, ok = findExtension(g.context.extensions, t)
	return bytes.Clone(data), ok
}

// Members returns the members in the order of their leaves.
func (g *Group) Members() []Member { return g.tree.memberList() }

// Member returns the member at leaf l; ok is false if there is none.
func (g *Group) Member(l LeafIndex) (m Member, ok bool) {
	leaf := g.tree.leaf(l)
	if leaf == nil {
		return Member{}, false
	}
	return leaf.member(l), true
}

// LeafExtension returns the data of an extension of a member's leaf.
func (g *Group) LeafExtension(l LeafIndex, t ExtensionType) (data []byte, ok bool) {
	leaf := g.tree.leaf(l)
	if leaf == nil {
		return nil, false
	}
	data, ok = findExtension(leaf.extensions, t)
	return bytes.Clone(data), ok
}

// Proposals returns the proposals that wait for a Commit.
func (g *Group) Proposals() []*ReceivedProposal {
	list := make([]*ReceivedProposal, len(g.proposals))
	for i, p := range g.proposals {
		list[i] = &ReceivedProposal{Ref: p.ref, Proposal: p.proposal, Sender: p.sender}
	}
	return list
}

// Left reports whether a merged Commit removed this member. Nothing but the
// accessors works after that.
func (g *Group) Left() bool { return g.left }

// Reinitialized returns the ReInit that ended the group, if there was one.
func (g *Group) Reinitialized() (r *ReInit, ok bool) { return g.reinit, g.reinit != nil }

// SetPSKs sets where pre-shared keys are found; nil means that there are none.
func (g *Group) SetPSKs(source PSKSource) { g.psks = source }

// SetExternalCommits sets whether external Commits are accepted: those by which
// an outsider who has a GroupInfo joins without being added, or replaces an
// earlier leaf of theirs (RFC 9420 section 12.4.3.2). By default they are
// refused with ErrExternalCommit. The setting is not stored with the group.
func (g *Group) SetExternalCommits(accept bool) { g.external = accept }

// SignatureKey returns a copy of the signature key of the own leaf.
func (g *Group) SignatureKey() SignaturePrivateKey { return bytes.Clone(g.signature) }

// usable returns an error if the group cannot do anything any more.
func (g *Group) usable() error {
	switch {
	case g.left:
		return ErrNotMember
	case g.reinit != nil:
		return ErrReinitialized
	}
	return nil
}

func (t *ratchetTree) memberList() []Member {
	var list []Member
	t.members(func(i LeafIndex, l *leafNode) { list = append(list, l.member(i)) })
	return list
}

func (l *leafNode) member(i LeafIndex) Member {
	return Member{Leaf: i, Credential: l.credential, SignatureKey: l.signatureKey, EncryptionKey: l.encryptionKey}
}
