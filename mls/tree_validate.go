package mls

import (
	"slices"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// verifyJoined checks the integrity of a tree that is being joined, apart from
// its hash (RFC 9420 section 12.4.3.1): parent hashes, leaves with their
// signatures, unmerged leaves, unique keys.
func (t *ratchetTree) verifyJoined(s *labeled.Suite, ctx *groupContext, w workers) error {
	// From here on several goroutines may read the tree.
	t.hashSubtrees(s, w)
	t.rootHash(s)
	var at []LeafIndex
	t.members(func(l LeafIndex, _ *leafNode) { at = append(at, l) })
	err := w.verify(s, len(at), 1, func(i int, b *labeled.Batch) error {
		return t.leaf(at[i]).validateIn(b, s, ctx.groupID, at[i])
	}, func(i int) error {
		return t.leaf(at[i]).validate(s, ctx.groupID, at[i])
	})
	if err != nil {
		return err
	}
	err = w.each(int(t.size())-1, func(i int) error {
		n := node(2*i + 1)
		p := t.parent(n)
		if p == nil {
			return nil
		}
		if err := s.CheckPublicKey(p.encryptionKey); err != nil {
			return invalidBecause("7.1", "encryption_key of a parent node is no key of the suite", err)
		}
		return t.checkUnmerged(n, p)
	})
	if err != nil {
		return err
	}
	if err := t.verifyParentHashes(s, w); err != nil {
		return err
	}
	return t.checkMembers(nil, ctx.extensions)
}

// checkUnmerged checks the unmerged leaves of parent n: each is a member below
// it, and is unmerged in all nodes between that are not blank.
func (t *ratchetTree) checkUnmerged(n node, p *parentNode) error {
	for _, l := range p.unmerged {
		if t.leaf(l) == nil || !l.node().InSubtree(n) {
			return invalid("12.4.3.1", "unmerged leaf is blank or not below its node")
		}
		for between, ok := l.node().Parent(t.size()); ok && between != n; between, ok = between.Parent(t.size()) {
			q := t.parent(between)
			if q == nil {
				continue
			}
			if _, found := slices.BinarySearch(q.unmerged, l); !found {
				return invalid("12.4.3.1", "unmerged leaf is missing in a node between")
			}
		}
	}
	return nil
}
