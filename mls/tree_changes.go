package mls

import "slices"

// treeChanges are the nodes of a tree that are not those of an earlier tree.
// Nodes are never changed once they are in a tree, so that comparing pointers
// finds them.
type treeChanges struct {
	leaves  []*leafNode
	parents []*parentNode
}

func (t *ratchetTree) changedSince(old *ratchetTree) (c treeChanges) {
	for i, l := range t.leaves {
		if l != nil && (i >= len(old.leaves) || l != old.leaves[i]) {
			c.leaves = append(c.leaves, l)
		}
	}
	for i, p := range t.parents {
		if p != nil && (i >= len(old.parents) || p != old.parents[i]) {
			c.parents = append(c.parents, p)
		}
	}
	return c
}

// checkMembersSince is checkMembers for a tree that was made from old by
// proposals and a path: old was checked, with the extensions before, so that
// only what is new is held against the rest. If the extensions are others, or
// most is new, all is checked.
func (t *ratchetTree) checkMembersSince(old *ratchetTree, before, extensions []Extension) error {
	c := t.changedSince(old)
	if 4*len(c.leaves) > len(t.leaves) || !equalExtensions(before, extensions) {
		return t.checkMembers(extensions)
	}
	if err := t.checkNewKeys(old, c); err != nil {
		return err
	}
	return t.checkNewCapabilities(old, c, extensions)
}

// checkNewKeys makes sure that the keys of changed nodes are no other node's
// (as checkUniqueKeys does for all).
func (t *ratchetTree) checkNewKeys(old *ratchetTree, c treeChanges) error {
	encryption, signature := newKeyFilter(), newKeyFilter()
	for _, l := range c.leaves {
		if !encryption.add(l.encryptionKey) {
			return invalid("7.3", "two nodes have the same encryption key")
		}
		if !signature.add(l.signatureKey) {
			return invalid("7.3", "two members have the same signature key")
		}
	}
	for _, p := range c.parents {
		if !encryption.add(p.encryptionKey) {
			return invalid("12.4.3.1", "two nodes have the same encryption key")
		}
	}
	for i, l := range old.leaves {
		if l == nil || i >= len(t.leaves) || t.leaves[i] != l {
			continue
		}
		if encryption.has(l.encryptionKey) {
			return invalid("7.3", "two nodes have the same encryption key")
		}
		if signature.has(l.signatureKey) {
			return invalid("7.3", "two members have the same signature key")
		}
	}
	for i, p := range old.parents {
		if p != nil && i < len(t.parents) && t.parents[i] == p && encryption.has(p.encryptionKey) {
			return invalid("12.4.3.1", "two nodes have the same encryption key")
		}
	}
	return nil
}

// checkNewCapabilities makes sure that changed leaves support what the group
// uses, and that all leaves support what they bring (as checkMembers does for
// all).
func (t *ratchetTree) checkNewCapabilities(old *ratchetTree, c treeChanges, extensions []Extension) error {
	inUse := t.credentialTypes()
	for _, l := range c.leaves {
		if err := l.supportsAll(inUse, extensions); err != nil {
			return err
		}
	}
	known := old.credentialTypes()
	isKnown := func(ct CredentialType) bool { return slices.Contains(known, ct) }
	if brought := slices.DeleteFunc(inUse, isKnown); len(brought) > 0 {
		return t.checkMembers(extensions)
	}
	return nil
}

// credentialTypes returns the credential types that members have.
func (t *ratchetTree) credentialTypes() []CredentialType {
	var list []CredentialType
	t.members(func(_ LeafIndex, l *leafNode) {
		if !slices.Contains(list, l.credential.Type) {
			list = append(list, l.credential.Type)
		}
	})
	return list
}

// supportsAll checks the capabilities of a leaf against the credential types
// in use and the group's extensions.
func (l *leafNode) supportsAll(inUse []CredentialType, extensions []Extension) error {
	for _, c := range inUse {
		if !slices.Contains(l.capabilities.Credentials, c) {
			return invalid("7.3", "member does not support a credential type in use")
		}
	}
	return l.supports(extensions)
}
