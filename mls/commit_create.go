package mls

import (
	"bytes"
	"fmt"
	"time"
)

// CommitOptions say what a Commit does. The zero value commits the proposals
// that wait in the group and refreshes the committer's keys.
type CommitOptions struct {
	Add    []*KeyPackage
	Remove []LeafIndex
	// Proposals are further ones, by value.
	Proposals []Proposal
	// Select decides which of the waiting proposals are committed. nil means
	// all that were sent by members: one from outside must be chosen.
	Select func(*ReceivedProposal) bool
	// Now is the current time, against which the lifetimes of Add are checked.
	// It is required if there are any.
	Now time.Time
	// NewSignatureKey and NewCredential replace those of the own leaf.
	NewSignatureKey SignaturePrivateKey
	NewCredential   *Credential
	// WithoutPath omits the path where the proposals allow it: cheaper, but
	// nobody's keys are refreshed.
	WithoutPath       bool
	AuthenticatedData []byte
	// Padding maps the size of the content to the size that it is padded to;
	// nil means no padding.
	Padding func(n int) int
	// Generation and ReuseGuard are the handshake generation and the reuse
	// guard of the Commit; nil means the ratchet's next one and a random one.
	// Devices that share a leaf must agree on who uses which.
	Generation *uint32
	ReuseGuard *[4]byte
	// Public sends the Commit as PublicMessage: signed, not encrypted.
	Public bool
	// WithoutTree leaves the tree out of the Welcome: those who join need
	// Group.RatchetTree from elsewhere.
	WithoutTree bool
	// Parallel is the number of goroutines to verify KeyPackages and to encrypt
	// to members on; 0 and 1 mean none but the caller's. The result does not
	// depend on it, and callbacks are called by the caller's alone.
	Parallel int

	link *PreSharedKeyID // what the first Commit of a Branch or Reinitialize has
}

// PendingCommit is a Commit that was made but has not taken effect.
type PendingCommit struct {
	Staged  *StagedCommit
	Commit  *Message
	Welcome *Message // for those who join, with the tree; nil if nobody does
}

// Commit makes a Commit and the Welcome for those it adds (RFC 9420 section 12.4.1). The group does not change: it must see Merge when
// the delivery service has accepted the Commit, and nothing if it has not.
// Two Commits made from one state use the same generation unless
// CommitOptions.Generation says otherwise.
//
// Waiting proposals that cannot be part of this Commit are left out: own
// updates, removals of this member, all but the last update of a leaf, a ReInit
// beside others, and whatever would make the Commit invalid together with what
// the options ask for and what was proposed before, as an Add of somebody who is
// a member already, or a pre-shared key that is not known here.
func (g *Group) Commit(o CommitOptions) (*PendingCommit, error) {
	p, err := g.commit(&o)
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	return p, nil
}

func (g *Group) commit(o *CommitOptions) (*PendingCommit, error) {
	if err := g.usable(); err != nil {
		return nil, err
	}
	list, err := g.listProposals(o)
	if err != nil {
		return nil, err
	}
	if list, err = g.leaveOut(list); err != nil {
		return nil, err
	}
	if err := g.checkList(list, g.own, workers(o.Parallel)); err != nil {
		return nil, err
	}
	t, err := g.apply(list)
	if err != nil {
		return nil, err
	}
	t.workers = workers(o.Parallel)
	c := &commit{proposals: listed(list)}
	replaces := o.NewSignatureKey != nil || o.NewCredential != nil
	withPath := t.needsPath || !o.WithoutPath || replaces
	var path *newPath
	commitSecret := make([]byte, g.suite.Nh)
	if withPath {
		old := t.tree.leaf(g.own)
		leaf, err := g.newLeaf(t, o)
		if err != nil {
			return nil, err
		}
		if err := g.checkSuccessor(old, leaf, CredentialInUpdatePath); err != nil {
			return nil, err
		}
		if path, err = g.makePath(t, c, leaf); err != nil {
			return nil, err
		}
		commitSecret = path.commitSecret
	}
	if err := t.tree.checkMembers(g.context.extensions, t.extensions); err != nil {
		return nil, err
	}
	a := g.commitContent(c, Sender{Type: SenderMember, Index: uint32(g.own)}, o.AuthenticatedData, handshakeFormat(o.Public))
	start, err := g.confirmCommit(t, a, g.signature, g.secrets.init, commitSecret)
	if err != nil {
		return nil, err
	}
	message, _, err := g.sealHandshake(a, o.Generation, o.ReuseGuard, o.Padding)
	if err != nil {
		return nil, err
	}
	pending := &PendingCommit{
		Staged: &StagedCommit{base: g.interim, next: start.group},
		Commit: message,
	}
	if len(t.joined) > 0 {
		if pending.Welcome, err = start.welcome(t, path, !o.WithoutTree); err != nil {
			return nil, err
		}
	}
	return pending, nil
}

func listed(list []listedProposal) []proposalOrRef {
	out := make([]proposalOrRef, len(list))
	for i, l := range list {
		if l.ref != "" {
			out[i].ref = l.ref
		} else {
			out[i].proposal = l.proposal
		}
	}
	return out
}

// newLeaf is this member's next leaf, still without keys of its own (RFC 9420
// section 7.5).
func (g *Group) newLeaf(t *transition, o *CommitOptions) (*leafNode, error) {
	leaf := *t.tree.leaf(g.own)
	if o.NewSignatureKey != nil {
		t.signature = bytes.Clone(o.NewSignatureKey)
		public, err := g.suite.SignaturePublicKey(t.signature)
		if err != nil {
			return nil, fmt.Errorf("new signature key: %w", err)
		}
		leaf.signatureKey = public
	}
	if o.NewCredential != nil {
		leaf.credential = *o.NewCredential
	}
	return &leaf, nil
}

// makePath puts leaf, with a fresh encryption key, and fresh keys on the path
// above it into the tree, and the UpdatePath into c (RFC 9420 sections 7.5 and
// 12.4.1). leaf is changed.
func (g *Group) makePath(t *transition, c *commit, leaf *leafNode) (*newPath, error) {
	s := g.suite
	leaf.source, leaf.lifetime = sourceCommit, Lifetime{}
	private, public, err := s.GenerateKeyPair()
	if err != nil {
		return nil, err
	}
	leaf.encryptionKey = public
	t.tree.hashSubtrees(s, t.workers)
	path, err := generatePath(s, t.tree.filteredPath(g.own))
	if err != nil {
		return nil, err
	}
	leaf.parentHash = t.tree.setPath(s, g.own, path.path, path.public)
	if err := leaf.sign(s, t.signature, g.context.groupID, g.own); err != nil {
		return nil, err
	}
	// Nobody could read a Commit with a leaf that cannot be decoded.
	if err := decode(encode(leaf), new(leafNode)); err != nil {
		return nil, fmt.Errorf("own leaf: %w", err)
	}
	if err := leaf.validate(s, g.context.groupID, g.own); err != nil {
		return nil, err
	}
	t.tree.setLeaf(g.own, leaf)
	t.private.forget(t.tree)
	t.private[g.own.node()] = private
	for i, n := range path.path {
		t.private[n.node] = path.private[i]
	}
	nodes, err := path.encrypt(s, t.tree, t.joining, encode(g.provisional(t)), t.workers)
	if err != nil {
		return nil, err
	}
	c.path = &updatePath{leaf: *leaf, nodes: nodes}
	return path, nil
}

// commitContent is a complete Commit to the current epoch, to be signed.
func (g *Group) commitContent(c *commit, sender Sender, authenticatedData []byte, format WireFormat) *authenticatedContent {
	c.octets = encode(c)
	return &authenticatedContent{
		wireFormat: format,
		framed: framedContent{
			groupID:           g.context.groupID,
			epoch:             g.context.epoch,
			sender:            sender,
			authenticatedData: bytes.Clone(authenticatedData),
			contentType:       ContentCommit,
			content:           content{commit: c},
		},
	}
}

// confirmCommit signs the Commit, derives the next epoch from it and sets the
// confirmation tag.
func (g *Group) confirmCommit(t *transition, a *authenticatedContent, sig SignaturePrivateKey, initSecret, commitSecret []byte) (*epochStart, error) {
	if err := a.sign(g.suite, sig, &g.context); err != nil {
		return nil, err
	}
	start, err := g.advance(t, a, initSecret, commitSecret)
	if err != nil {
		return nil, err
	}
	a.auth.confirmationTag = start.group.confirmationTag
	return start, nil
}
