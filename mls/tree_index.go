package mls

import (
	"bytes"
	"maps"
	"slices"
)

// treeIndex is what the checks of all members together look for in a tree (RFC
// 9420 section 7.3). It is never changed once it is a tree's.
type treeIndex struct {
	encryption  *keyIndex
	signature   *keyIndex
	credentials map[CredentialType]int // how many members have one of that type
}

// change is a node that is not what it was when the tree was indexed.
type change struct {
	node   node
	leaf   *leafNode
	parent *parentNode
}

// checkMembers checks what RFC 9420 section 7.3 asks of all leaves together,
// signatures apart: unique keys, and capabilities that cover the group's
// extensions and all credential types in use. If the tree is a clone of one that
// was checked, with the extensions before, only what changed is held against
// the rest. After it, clones of the tree need no more.
func (t *ratchetTree) checkMembers(before, extensions []Extension) error {
	x, changed, err := t.indexed()
	if err != nil {
		return err
	}
	inUse := slices.Collect(maps.Keys(x.credentials))
	if t.index == nil || !equalExtensions(before, extensions) || t.index.lacks(inUse) {
		changed = nil
		t.members(func(l LeafIndex, _ *leafNode) { changed = append(changed, change{node: l.node()}) })
	}
	for _, c := range changed {
		if l := t.leafAt(c.node); l != nil {
			if err := l.supportsAll(inUse, extensions); err != nil {
				return err
			}
		}
	}
	t.index, t.changed = x, nil
	return nil
}

// lacks reports whether no member has a credential of one of the given types.
func (x *treeIndex) lacks(types []CredentialType) bool {
	return slices.ContainsFunc(types, func(ct CredentialType) bool { return x.credentials[ct] == 0 })
}

// indexed returns the index of the tree, and what changed since it has one. It
// fails if two nodes share an encryption key, or two members a signature key.
func (t *ratchetTree) indexed() (*treeIndex, []change, error) {
	changed := slices.Clone(t.changed)
	// The first note about a node says what is in the index.
	slices.SortStableFunc(changed, func(a, b change) int { return int(a.node) - int(b.node) })
	changed = slices.CompactFunc(changed, func(a, b change) bool { return a.node == b.node })
	x := t.index
	if x == nil || !x.encryption.holds(len(changed)) || !x.signature.holds(len(changed)) {
		x, err := t.newIndex()
		return x, changed, err
	}
	x = new(treeIndex)
	var dup node
	var ok bool
	if x.encryption, dup, ok = t.index.encryption.follow(t, changed, change.encryptionKey); !ok {
		return nil, nil, sameEncryptionKey(dup)
	}
	if x.signature, _, ok = t.index.signature.follow(t, changed, change.signatureKey); !ok {
		return nil, nil, sameSignatureKey()
	}
	x.credentials = maps.Clone(t.index.credentials)
	for _, c := range changed {
		was, is := c.leaf, t.leafAt(c.node)
		if was != nil {
			if x.credentials[was.credential.Type]--; x.credentials[was.credential.Type] == 0 {
				delete(x.credentials, was.credential.Type)
			}
		}
		if is != nil {
			x.credentials[is.credential.Type]++
		}
	}
	return x, changed, nil
}

// encryptionKey is the key that a node had before it changed; nil if it was
// blank.
func (c change) encryptionKey() []byte {
	switch {
	case c.leaf != nil:
		return c.leaf.encryptionKey
	case c.parent != nil:
		return c.parent.encryptionKey
	}
	return nil
}

func (c change) signatureKey() []byte {
	if c.leaf != nil {
		return c.leaf.signatureKey
	}
	return nil
}

func sameSignatureKey() error { return invalid("7.3", "two members have the same signature key") }

func sameEncryptionKey(n node) error {
	if n.IsLeaf() {
		return invalid("7.3", "two nodes have the same encryption key")
	}
	return invalid("12.4.3.1", "two nodes have the same encryption key")
}

// newIndex makes the index of a whole tree.
func (t *ratchetTree) newIndex() (*treeIndex, error) {
	encryption, signature := 0, 0
	for n := range t.width() {
		if t.leafAt(n) != nil {
			signature++
		}
		if !t.blank(n) {
			encryption++
		}
	}
	x := &treeIndex{
		encryption:  newKeyIndex(encryption, (*ratchetTree).key),
		signature:   newKeyIndex(signature, (*ratchetTree).signatureKey),
		credentials: map[CredentialType]int{},
	}
	for n := range t.width() {
		if !x.encryption.insert(t, n) {
			return nil, sameEncryptionKey(n)
		}
		if !x.signature.insert(t, n) {
			return nil, sameSignatureKey()
		}
		if l := t.leafAt(n); l != nil {
			x.credentials[l.credential.Type]++
		}
	}
	return x, nil
}

// hasKey reports whether a node of the tree has the given encryption key.
func (t *ratchetTree) hasKey(key []byte) bool {
	if t.index == nil {
		for n := range t.width() {
			if k := t.key(n); k != nil && bytes.Equal(k, key) {
				return true
			}
		}
		return false
	}
	if _, ok := t.index.encryption.find(t, key); ok {
		return true
	}
	return slices.ContainsFunc(t.changed, func(c change) bool { return bytes.Equal(t.key(c.node), key) })
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
