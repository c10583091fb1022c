package mls

import "maps"

// transition is the next epoch of a group while a Commit is being made or
// processed (RFC 9420 section 12.3).
type transition struct {
	tree       *ratchetTree
	extensions []Extension
	private    privateKeys
	signature  SignaturePrivateKey
	psks       []PreSharedKeyID
	init       *ExternalInit
	reinit     *ReInit
	needsPath  bool
	workers    workers // that the caller allows

	joining  []LeafIndex // leaves of added members, ascending
	joined   []*Add      // in the order of joining
	removed  []Member
	updated  []LeafIndex
	selfGone bool
}

// apply applies the proposals of a valid list to copies of the tree and of the
// extensions, in the order of RFC 9420 section 12.3.
func (g *Group) apply(list []listedProposal) (*transition, error) {
	t := &transition{
		tree:       g.tree.clone(),
		extensions: g.context.extensions,
		private:    maps.Clone(g.private),
		signature:  g.signature,
		needsPath:  len(list) == 0,
	}
	for _, l := range list {
		t.needsPath = t.needsPath || l.proposal.Type().needsPath()
		switch p := l.proposal.(type) {
		case *GroupContextExtensions:
			t.extensions = p.Extensions
		case *PreSharedKey:
			t.psks = append(t.psks, p.ID)
		case *ExternalInit:
			t.init = p
		case *ReInit:
			t.reinit = p
		}
	}
	for _, l := range list {
		if p, ok := l.proposal.(*Update); ok {
			if err := g.applyUpdate(t, p, LeafIndex(l.sender.Index), l.ref); err != nil {
				return nil, err
			}
		}
	}
	for _, l := range list {
		if p, ok := l.proposal.(*Remove); ok {
			t.removed = append(t.removed, g.tree.leaf(p.Removed).member(p.Removed))
			t.tree.remove(p.Removed)
			t.selfGone = t.selfGone || p.Removed == g.own
		}
	}
	t.tree.truncate()
	for _, l := range list {
		if p, ok := l.proposal.(*Add); ok {
			leaf, err := t.tree.add(&p.KeyPackage.leaf)
			if err != nil {
				return nil, err
			}
			t.joining = append(t.joining, leaf)
			t.joined = append(t.joined, p)
		}
	}
	t.private.forget(t.tree)
	return t, nil
}

// applyUpdate applies an Update, and takes over the keys of an own one.
func (g *Group) applyUpdate(t *transition, p *Update, leaf LeafIndex, ref ProposalRef) error {
	t.tree.update(leaf, &p.leaf)
	t.updated = append(t.updated, leaf)
	if leaf != g.own {
		return nil
	}
	keys, ok := g.updates[ref]
	if !ok {
		return invalid("12.1.2", "private key of the own update is not known")
	}
	t.private[leaf.node()] = keys.encryption
	t.signature = keys.signature
	return nil
}
