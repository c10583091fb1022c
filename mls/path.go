package mls

import (
	"bytes"
	"maps"
	"slices"

	"github.com/cloudmls/gateway/mls/internal/labeled"
	"github.com/cloudmls/gateway/mls/internal/treemath"
)

// privateKeys are the HPKE private keys that a member holds: its leaf's and
// those of nodes above it. The slices are never changed.
type privateKeys map[node][]byte

// forget deletes the keys of nodes that are blank or gone.
func (k privateKeys) forget(t *ratchetTree) {
	maps.DeleteFunc(k, func(n node, _ []byte) bool { return uint32(n) >= treemath.Width(t.size()) || t.blank(n) })
}

// newPath holds the secrets of a path that is being made (RFC 9420 section
// 7.4).
type newPath struct {
	path         []pathNode
	secrets      [][]byte // path_secret by path node
	private      [][]byte
	public       [][]byte
	commitSecret []byte
}

// generatePath samples the secrets for a filtered direct path.
func generatePath(s *labeled.Suite, path []pathNode) (*newPath, error) {
	p := &newPath{path: path}
	secret := randomBytes(s.Nh)
	for range path {
		private, public, err := nodeKeys(s, secret)
		if err != nil {
			return nil, err
		}
		p.secrets = append(p.secrets, secret)
		p.private = append(p.private, private)
		p.public = append(p.public, public)
		if secret, err = s.DeriveSecret(secret, "path"); err != nil {
			return nil, err
		}
	}
	p.commitSecret = secret
	return p, nil
}

// nodeKeys derives the key pair of a node from its path secret.
func nodeKeys(s *labeled.Suite, pathSecret []byte) (private, public []byte, err error) {
	secret, err := s.DeriveSecret(pathSecret, "node")
	if err != nil {
		return nil, nil, err
	}
	return s.DeriveKeyPair(secret)
}

// encrypt encrypts the path secrets to the rest of the group (RFC 9420 section
// 7.6). context is the encoded provisional GroupContext; the leaves in joining
// are left out of all resolutions.
func (p *newPath) encrypt(s *labeled.Suite, t *ratchetTree, joining []LeafIndex, context []byte, w workers) ([]updatePathNode, error) {
	lists := make([][]hpkeCiphertext, len(p.path))
	type seal struct {
		to     []byte
		secret []byte
		at     *hpkeCiphertext
	}
	var seals []seal
	for i, n := range p.path {
		resolution := t.resolutionWithout(n.copath, joining)
		lists[i] = make([]hpkeCiphertext, len(resolution))
		for j, r := range resolution {
			seals = append(seals, seal{to: t.key(r), secret: p.secrets[i], at: &lists[i][j]})
		}
	}
	encryption := s.Encryption("UpdatePathNode", context)
	err := w.each(len(seals), func(i int) (err error) {
		x := seals[i]
		x.at.kemOutput, x.at.ciphertext, err = encryption.To(x.to, x.secret)
		return err
	})
	if err != nil {
		return nil, err
	}
	nodes := make([]updatePathNode, len(p.path))
	for i, list := range lists {
		nodes[i] = updatePathNode{encryptionKey: p.public[i], secrets: newCiphertexts(list)}
	}
	return nodes, nil
}

// resolutionWithout is the resolution of n without the leaves in joining,
// which are in ascending order.
func (t *ratchetTree) resolutionWithout(n node, joining []LeafIndex) []node {
	list := t.resolution(n)
	if len(joining) == 0 {
		return list
	}
	return slices.DeleteFunc(list, func(r node) bool {
		if !r.IsLeaf() {
			return false
		}
		_, found := slices.BinarySearch(joining, LeafIndex(r.Leaf()))
		return found
	})
}

// resolutions are those of the copath of a path, without the leaves in joining.
// They do not change when the path is merged.
func (t *ratchetTree) resolutions(path []pathNode, joining []LeafIndex) [][]node {
	list := make([][]node, len(path))
	for i, n := range path {
		list[i] = t.resolutionWithout(n.copath, joining)
	}
	return list
}

// keys returns the public keys of a received path.
func (p *updatePath) keys() [][]byte {
	keys := make([][]byte, len(p.nodes))
	for i := range p.nodes {
		keys[i] = p.nodes[i].encryptionKey
	}
	return keys
}

// check makes sure that the path fits the tree that it is about to be merged
// into: one node for each of the filtered direct path, valid keys that occur
// nowhere in the tree, one ciphertext for each node of each resolution (RFC
// 9420 sections 7.6 and 12.4.2).
func (p *updatePath) check(s *labeled.Suite, t *ratchetTree, resolutions [][]node) error {
	if len(p.nodes) != len(resolutions) {
		return invalid("7.6", "path does not fit the filtered direct path")
	}
	for i, n := range p.nodes {
		if err := s.CheckPublicKey(n.encryptionKey); err != nil {
			return invalidBecause("7.1", "encryption_key in the path is no key of the suite", err)
		}
		if n.secrets.count != len(resolutions[i]) {
			return invalid("7.6", "path has the wrong number of encrypted secrets")
		}
	}
	return p.checkFresh(t)
}

// checkFresh makes sure that no key of the path occurs in the tree or twice in
// the path (RFC 9420 section 12.4.2).
func (p *updatePath) checkFresh(t *ratchetTree) error {
	keys := append(p.keys(), p.leaf.encryptionKey)
	for i, k := range keys {
		if slices.ContainsFunc(keys[:i], func(other []byte) bool { return bytes.Equal(k, other) }) {
			return invalid("12.4.2", "path holds a public key twice")
		}
		if t.hasKey(k) {
			return invalid("12.4.2", "public key of the path is already in the tree")
		}
	}
	return nil
}

// decrypt recovers the path secret for member own, stores the private keys
// that follow from it in keys, and returns the commit secret (RFC 9420 section
// 7.5). t is the tree with the path merged, path the sender's filtered direct
// path with the resolutions of its copath, context the encoded provisional
// GroupContext. keys must not hold keys of the path that were replaced.
func (p *updatePath) decrypt(s *labeled.Suite, t *ratchetTree, path []pathNode, resolutions [][]node, own LeafIndex, keys privateKeys, context []byte) ([]byte, error) {
	at := slices.IndexFunc(path, func(n pathNode) bool { return own.node().InSubtree(n.copath) })
	if at < 0 {
		return nil, invalid("7.5", "path has nothing for this member")
	}
	resolution := resolutions[at]
	which := slices.IndexFunc(resolution, func(r node) bool { return own.node().InSubtree(r) && keys[r] != nil })
	if which < 0 {
		return nil, invalid("7.5", "path has nothing that this member can decrypt")
	}
	c := p.nodes[at].secrets.at(which)
	secret, err := s.Decrypt(keys[resolution[which]], t.key(resolution[which]), "UpdatePathNode", context, c.kemOutput, c.ciphertext)
	if err != nil {
		return nil, invalidBecause("7.5", "path secret", err)
	}
	return derivePath(s, t, path[at:], keys, secret)
}

// derivePath stores the private keys of the given nodes, which follow from the
// path secret of the first one, after checking that they belong to the public
// keys in the tree. It returns the commit secret.
func derivePath(s *labeled.Suite, t *ratchetTree, path []pathNode, keys privateKeys, secret []byte) ([]byte, error) {
	if len(secret) != s.Nh {
		return nil, invalid("7.5", "path secret has the wrong length")
	}
	for _, n := range path {
		private, public, err := nodeKeys(s, secret)
		if err != nil {
			return nil, err
		}
		if !bytes.Equal(public, t.key(n.node)) {
			return nil, invalid("7.5", "path secret does not belong to the public key of its node")
		}
		keys[n.node] = private
		if secret, err = s.DeriveSecret(secret, "path"); err != nil {
			return nil, err
		}
	}
	return secret, nil
}
