package mls

import (
	"bytes"
	"crypto/subtle"
	"time"
)

// receiveCommit verifies a Commit whose signature was verified, and derives
// the epoch that it begins (RFC 9420 section 12.4.2). The group stays as it
// is.
func (g *Group) receiveCommit(a *authenticatedContent, now time.Time) (*ReceivedCommit, error) {
	external := a.framed.sender.Type == SenderNewMemberCommit
	committer := LeafIndex(a.framed.sender.Index)
	switch {
	case external && !g.external:
		return nil, ErrExternalCommit
	case !external && committer == g.own:
		return nil, ErrOwnCommit
	}
	c := a.framed.content.commit
	list, err := g.resolve(c, a.framed.sender)
	if err != nil {
		return nil, err
	}
	if external {
		err = g.checkExternalList(list)
	} else {
		err = g.checkList(list, committer, 1)
	}
	if err != nil {
		return nil, err
	}
	t, err := g.apply(list)
	if err != nil {
		return nil, err
	}
	if t.needsPath && c.path == nil {
		return nil, invalid("12.4", "commit must have a path")
	}
	var before *leafNode // the committer's leaf that the path replaces
	if external {
		if committer, before, err = g.placeExternal(t, list); err != nil {
			return nil, err
		}
	} else {
		before = t.tree.leaf(committer)
	}
	commitSecret := make([]byte, g.suite.Nh)
	if c.path != nil {
		if commitSecret, err = g.receivePath(t, c.path, committer, before, external); err != nil {
			return nil, err
		}
	}
	if err := t.tree.checkMembers(g.context.extensions, t.extensions); err != nil {
		return nil, err
	}
	r := g.report(t, a, committer, c.path != nil && !external, now)
	r.External = external
	r.Staged = &StagedCommit{base: g.interim}
	if t.selfGone {
		return r, nil
	}
	r.Staged.next, err = g.confirmReceived(t, a, commitSecret)
	return r, err
}

// confirmReceived derives the next epoch and compares the confirmation tag.
func (g *Group) confirmReceived(t *transition, a *authenticatedContent, commitSecret []byte) (*Group, error) {
	initSecret := g.secrets.init
	if t.init != nil {
		var err error
		if initSecret, err = g.externalInit(t.init); err != nil {
			return nil, err
		}
	}
	start, err := g.advance(t, a, initSecret, commitSecret)
	if err != nil {
		return nil, err
	}
	want, have := start.group.confirmationTag, a.auth.confirmationTag
	if len(have) != len(want) || subtle.ConstantTimeCompare(want, have) != 1 {
		return nil, invalid("12.4.2", "confirmation tag does not verify")
	}
	return start.group, nil
}

// resolve replaces the references of a Commit by the proposals that were
// received (RFC 9420 section 12.4).
func (g *Group) resolve(c *commit, committer Sender) ([]listedProposal, error) {
	list := make([]listedProposal, len(c.proposals))
	seen := map[ProposalRef]bool{}
	for i, p := range c.proposals {
		if p.proposal != nil {
			list[i] = listedProposal{proposal: p.proposal, sender: committer}
			continue
		}
		if seen[p.ref] {
			return nil, invalid("12.2", "commit refers to a proposal twice")
		}
		seen[p.ref] = true
		found := false
		for _, q := range g.proposals {
			if q.ref == p.ref {
				list[i] = listedProposal{proposal: q.proposal, sender: q.sender, ref: q.ref}
				found = true
				break
			}
		}
		if !found {
			return nil, ErrUnknownProposal
		}
	}
	return list, nil
}

// receivePath validates a path, merges it into the tree and decrypts its
// secret (RFC 9420 sections 7.5 and 12.4.2). It returns the commit secret,
// which is nil if the Commit removes this member.
func (g *Group) receivePath(t *transition, p *updatePath, committer LeafIndex, before *leafNode, external bool) ([]byte, error) {
	s := g.suite
	if p.leaf.source != sourceCommit {
		return nil, invalid("7.3", "leaf_node_source is not commit")
	}
	if before != nil && bytes.Equal(before.encryptionKey, p.leaf.encryptionKey) {
		return nil, invalid("12.4.2", "path keeps the encryption key of the leaf")
	}
	if err := p.leaf.validate(s, g.context.groupID, committer); err != nil {
		return nil, err
	}
	if err := g.checkPathCredential(&p.leaf, before, external); err != nil {
		return nil, err
	}
	path := t.tree.filteredPath(committer)
	resolutions := t.tree.resolutions(path, t.joining)
	if err := p.check(s, t.tree, resolutions); err != nil {
		return nil, err
	}
	// RFC 9420 section 7.9.2: the leaf commits to the new parent nodes.
	hash := t.tree.setPath(s, committer, path, p.keys())
	if !bytes.Equal(hash, p.leaf.parentHash) {
		return nil, invalid("7.9.2", "parent hash of the committer's leaf")
	}
	t.tree.setLeaf(committer, &p.leaf)
	t.tree.rootHash(s)
	if t.selfGone {
		return nil, nil
	}
	for _, n := range committer.node().DirectPath(t.tree.size()) {
		delete(t.private, n)
	}
	return p.decrypt(s, t.tree, path, resolutions, g.own, t.private, encode(g.provisional(t)))
}

// checkPathCredential asks about the committer's new leaf: in an external
// Commit always, otherwise if it says something new.
func (g *Group) checkPathCredential(leaf, before *leafNode, external bool) error {
	if !external {
		return g.checkSuccessor(before, leaf, CredentialInUpdatePath)
	}
	var previous *Credential
	if before != nil {
		previous = &before.credential
	}
	return g.checkCredential(leaf, CredentialInExternalJoin, previous)
}

// report lists what a Commit changes.
func (g *Group) report(t *transition, a *authenticatedContent, committer LeafIndex, pathOfMember bool, now time.Time) *ReceivedCommit {
	r := &ReceivedCommit{
		Sender:            committer,
		Removed:           t.removed,
		SelfRemoved:       t.selfGone,
		AuthenticatedData: a.framed.authenticatedData,
	}
	for _, l := range t.joining {
		leaf := t.tree.leaf(l)
		r.Added = append(r.Added, leaf.member(l))
		if leaf.source == sourceKeyPackage && !leaf.lifetime.Contains(now) {
			r.Expired = append(r.Expired, l)
		}
	}
	updated := t.updated
	if pathOfMember {
		updated = append(updated, committer)
	}
	for _, l := range updated {
		r.Updated = append(r.Updated, t.tree.leaf(l).member(l))
	}
	if a.framed.sender.Type == SenderNewMemberCommit {
		r.Added = append(r.Added, t.tree.leaf(committer).member(committer))
	}
	return r
}
