package mls

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// GroupInfo describes the current epoch with its tree (RFC 9420 section
// 12.4.3), and with the key that lets whoever has it join by an external
// Commit, if the members accept those.
func (g *Group) GroupInfo() (*Message, error) {
	return g.GroupInfoWith(GroupInfoOptions{})
}

// GroupInfoOptions say what a GroupInfo leaves out.
type GroupInfoOptions struct {
	WithoutTree        bool // who uses it needs RatchetTree from elsewhere
	WithoutExternalKey bool // it does not serve for external Commits
}

// GroupInfoWith is GroupInfo with less in it.
func (g *Group) GroupInfoWith(o GroupInfoOptions) (*Message, error) {
	if err := g.usable(); err != nil {
		return nil, fmt.Errorf("group info: %w", err)
	}
	info, err := g.groupInfo(!o.WithoutTree, !o.WithoutExternalKey)
	if err != nil {
		return nil, fmt.Errorf("group info: %w", err)
	}
	return &Message{wireFormat: WireGroupInfo, groupInfo: info}, nil
}

// RatchetTree returns the public tree in the form of the ratchet_tree extension
// (RFC 9420 section 12.4.3.3), as JoinOptions and ExternalJoinOptions take it.
func (g *Group) RatchetTree() []byte { return encode(g.tree) }

// ExternalJoinOptions are what joining by an external Commit takes.
type ExternalJoinOptions struct {
	// GroupInfo of the group, with its external key.
	GroupInfo *Message
	// RatchetTree is the tree, where the GroupInfo does not carry it.
	RatchetTree  []byte
	Credential   Credential
	SignatureKey SignaturePrivateKey
	// Capabilities of the joiner; nil means DefaultCapabilities.
	Capabilities   *Capabilities
	LeafExtensions []Extension
	// Replace is an earlier leaf of the joiner's, which the Commit removes.
	Replace *LeafIndex
	// PSKs are pre-shared keys to mix in, found by PSKSource.
	PSKs      []PreSharedKeyID
	PSKSource PSKSource
	// Validate is the Authentication Service. It is required.
	Validate          CredentialValidator
	AuthenticatedData []byte
	// Parallel is the number of goroutines to spread work on, as in JoinOptions
	// and CommitOptions.
	Parallel int
}

// ExternalJoin is an external Commit that was made: the group as it will be
// once the delivery service has accepted the Commit.
type ExternalJoin struct {
	Group  *Group
	Commit *Message
}

// JoinExternal makes an external Commit, by which the caller adds itself (RFC
// 9420 section 12.4.3.2). The GroupInfo and its tree are verified as for a
// Welcome. The group must not be used before the Commit was accepted.
func JoinExternal(o ExternalJoinOptions) (*ExternalJoin, error) {
	j, err := joinExternal(&o)
	if err != nil {
		return nil, fmt.Errorf("external join: %w", err)
	}
	return j, nil
}

func joinExternal(o *ExternalJoinOptions) (*ExternalJoin, error) {
	g, leaf, err := externalBase(o)
	if err != nil {
		return nil, err
	}
	kemOutput, initSecret, err := g.externalSecret(o.GroupInfo.groupInfo)
	if err != nil {
		return nil, err
	}
	me := Sender{Type: SenderNewMemberCommit}
	list := []listedProposal{{proposal: &ExternalInit{KEMOutput: kemOutput}, sender: me}}
	if o.Replace != nil {
		list = append(list, listedProposal{proposal: &Remove{Removed: *o.Replace}, sender: me})
	}
	for _, id := range o.PSKs {
		list = append(list, listedProposal{proposal: &PreSharedKey{ID: id}, sender: me})
	}
	if err := g.checkExternalList(list); err != nil {
		return nil, err
	}
	t, err := g.apply(list)
	if err != nil {
		return nil, err
	}
	t.workers = workers(o.Parallel)
	var before *leafNode
	if g.own, before, err = g.placeExternal(t, list); err != nil {
		return nil, err
	}
	if err := g.checkPathCredential(leaf, before, true); err != nil {
		return nil, err
	}
	c := &commit{proposals: listed(list)}
	path, err := g.makePath(t, c, leaf)
	if err != nil {
		return nil, err
	}
	if err := t.tree.checkMembers(g.context.extensions, t.extensions); err != nil {
		return nil, err
	}
	a := g.commitContent(c, me, o.AuthenticatedData, WirePublicMessage)
	start, err := g.confirmCommit(t, a, g.signature, initSecret, path.commitSecret)
	if err != nil {
		return nil, err
	}
	public, err := sealPublic(g.suite, nil, a, &g.context)
	if err != nil {
		return nil, err
	}
	return &ExternalJoin{Group: start.group, Commit: &Message{wireFormat: WirePublicMessage, public: public}}, nil
}

// externalBase verifies the GroupInfo and returns the group as it is before
// the join, without its secrets, and the joiner's leaf without keys.
func externalBase(o *ExternalJoinOptions) (*Group, *leafNode, error) {
	if o.Validate == nil {
		return nil, nil, errNoValidator
	}
	if o.GroupInfo == nil || o.GroupInfo.groupInfo == nil {
		return nil, nil, errors.New("message is not a group info")
	}
	info := o.GroupInfo.groupInfo
	s, err := info.context.suite.suite()
	if err != nil {
		return nil, nil, err
	}
	public, err := s.SignaturePublicKey(o.SignatureKey)
	if err != nil {
		return nil, nil, err
	}
	leaf := &leafNode{
		signatureKey: public,
		credential:   o.Credential,
		capabilities: capabilitiesOr(o.Capabilities, info.context.suite, o.Credential.Type, o.LeafExtensions),
		extensions:   cloneExtensions(o.LeafExtensions),
	}
	tree, err := info.ratchetTree(o.RatchetTree)
	if err != nil {
		return nil, nil, err
	}
	if err := info.check(s, tree, leaf, workers(o.Parallel)); err != nil {
		return nil, nil, err
	}
	g := &Group{
		suite:     s,
		context:   info.context,
		tree:      tree,
		interim:   interimTranscriptHash(s, info.context.transcriptHash, info.confirmationTag),
		own:       math.MaxUint32, // nobody yet
		signature: bytes.Clone(o.SignatureKey),
		private:   privateKeys{},
		validate:  o.Validate,
		psks:      o.PSKSource,
	}
	return g, leaf, g.checkJoined()
}

// externalSecret makes the init secret for an external Commit.
func (g *Group) externalSecret(info *groupInfo) (kemOutput, secret []byte, err error) {
	data, ok := findExtension(info.extensions, ExtensionExternalPub)
	if !ok {
		return nil, nil, invalid("12.4.3.2", "group info has no external_pub extension")
	}
	r := codec.NewReader(data)
	public := r.OpaqueMax(maxKey)
	if err := r.Finish(); err != nil {
		return nil, nil, invalidBecause("12.4.3.2", "external_pub extension is malformed", err)
	}
	kemOutput, secret, err = g.suite.ExternalInit(public)
	if err != nil {
		return nil, nil, invalidBecause("12.4.3.2", "external_pub", err)
	}
	return kemOutput, secret, nil
}
