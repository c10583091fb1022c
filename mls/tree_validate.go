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
	err = w.each(len(t.parents), func(i int) error {
		p := t.parents[i]
		if p == nil {
			return nil
		}
		if err := s.CheckPublicKey(p.encryptionKey); err != nil {
			return invalidBecause("7.1", "encryption_key of a parent node is no key of the suite", err)
		}
		return t.checkUnmerged(node(2*i+1), p)
	})
	if err != nil {
		return err
	}
	if err := t.verifyParentHashes(s, w); err != nil {
		return err
	}
	return t.checkMembers(ctx.extensions)
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

// checkMembers checks what RFC 9420 section 7.3 asks of all leaves together,
// signatures apart: unique keys, and capabilities that cover the group's
// extensions and all credential types in use.
func (t *ratchetTree) checkMembers(extensions []Extension) error {
	if err := t.checkUniqueKeys(); err != nil {
		return err
	}
	inUse := t.credentialTypes()
	var err error
	t.members(func(_ LeafIndex, l *leafNode) {
		if err == nil {
			err = l.supportsAll(inUse, extensions)
		}
	})
	return err
}

// checkUniqueKeys makes sure that no two nodes share an encryption key and no
// two members a signature key.
func (t *ratchetTree) checkUniqueKeys() error {
	encryption := make(map[string]bool, 2*len(t.leaves))
	signature := make(map[string]bool, len(t.leaves))
	for _, l := range t.leaves {
		if l == nil {
			continue
		}
		if encryption[string(l.encryptionKey)] {
			return invalid("7.3", "two nodes have the same encryption key")
		}
		if signature[string(l.signatureKey)] {
			return invalid("7.3", "two members have the same signature key")
		}
		encryption[string(l.encryptionKey)] = true
		signature[string(l.signatureKey)] = true
	}
	for _, p := range t.parents {
		if p == nil {
			continue
		}
		if encryption[string(p.encryptionKey)] {
			return invalid("12.4.3.1", "two nodes have the same encryption key")
		}
		encryption[string(p.encryptionKey)] = true
	}
	return nil
}
