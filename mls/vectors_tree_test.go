package mls

import (
	"bytes"
	"maps"
	"testing"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
	"github.com/cloudmls/gateway/mls/internal/treemath"
)

func TestVectorsTreeOperations(t *testing.T) {
	type vector struct {
		Suite      CipherSuite `json:"cipher_suite"`
		Before     hexBytes    `json:"tree_before"`
		Proposal   hexBytes    `json:"proposal"`
		Sender     LeafIndex   `json:"proposal_sender"`
		HashBefore hexBytes    `json:"tree_hash_before"`
		After      hexBytes    `json:"tree_after"`
		HashAfter  hexBytes    `json:"tree_hash_after"`
	}
	count := countVectors("tree-operations.json")
	for _, v := range loadVectors[vector](t, "tree-operations.json") {
		if !count.supported(v.Suite) {
			continue
		}
		s := must[*labeled.Suite](t)(v.Suite.suite())
		before := must[*ratchetTree](t)(parseRatchetTree(v.Before))
		wantEqual(t, "tree_hash_before", before.rootHash(s), v.HashBefore)
		after := before.clone()
		r := codec.NewReader(v.Proposal)
		p := readProposal(r)
		noError(t, r.Finish())
		switch p := p.(type) {
		case *Add:
			_, err := after.add(&p.KeyPackage.leaf)
			noError(t, err)
		case *Update:
			after.update(v.Sender, &p.leaf)
		case *Remove:
			after.remove(p.Removed)
			after.truncate()
		default:
			t.Fatalf("proposal type %d", p.Type())
		}
		wantEqual(t, "tree_after", encode(after), v.After)
		wantEqual(t, "tree_hash_after", after.rootHash(s), v.HashAfter)
		wantEqual(t, "tree before, afterwards", encode(before), v.Before)
	}
	count.report(t)
}

func TestVectorsTreeValidation(t *testing.T) {
	type vector struct {
		Suite       CipherSuite `json:"cipher_suite"`
		Tree        hexBytes    `json:"tree"`
		GroupID     hexBytes    `json:"group_id"`
		Resolutions [][]node    `json:"resolutions"`
		Hashes      []hexBytes  `json:"tree_hashes"`
	}
	count := countVectors("tree-validation.json")
	for _, v := range loadVectors[vector](t, "tree-validation.json") {
		if !count.supported(v.Suite) {
			continue
		}
		s := must[*labeled.Suite](t)(v.Suite.suite())
		tree := must[*ratchetTree](t)(parseRatchetTree(v.Tree))
		wantEqual(t, "tree", encode(tree), v.Tree)
		for n := range node(treemath.Width(tree.size())) {
			wantEqual(t, "tree hash", tree.treeHash(s, n), v.Hashes[n])
			got := tree.resolution(n)
			if len(got) != len(v.Resolutions[n]) {
				t.Fatalf("resolution of %d: got %v, want %v", n, got, v.Resolutions[n])
			}
			for i, r := range v.Resolutions[n] {
				if got[i] != r {
					t.Fatalf("resolution of %d: got %v, want %v", n, got, v.Resolutions[n])
				}
			}
		}
		noError(t, tree.verifyJoined(s, &groupContext{groupID: GroupID(v.GroupID)}, 1))
	}
	count.report(t)
}

type treeKEMVector struct {
	Suite          CipherSuite `json:"cipher_suite"`
	GroupID        hexBytes    `json:"group_id"`
	Epoch          Epoch       `json:"epoch"`
	TranscriptHash hexBytes    `json:"confirmed_transcript_hash"`
	Tree           hexBytes    `json:"ratchet_tree"`
	Leaves         []struct {
		Index      LeafIndex `json:"index"`
		Encryption hexBytes  `json:"encryption_priv"`
		Signature  hexBytes  `json:"signature_priv"`
		Secrets    []struct {
			Node   node     `json:"node"`
			Secret hexBytes `json:"path_secret"`
		} `json:"path_secrets"`
	} `json:"leaves_private"`
	Paths []struct {
		Sender  LeafIndex   `json:"sender"`
		Path    hexBytes    `json:"update_path"`
		Secrets []*hexBytes `json:"path_secrets"`
		Commit  hexBytes    `json:"commit_secret"`
		Hash    hexBytes    `json:"tree_hash_after"`
	} `json:"update_paths"`
}

func TestVectorsTreeKEM(t *testing.T) {
	count := countVectors("treekem.json")
	for _, v := range loadVectors[treeKEMVector](t, "treekem.json") {
		if count.supported(v.Suite) {
			checkTreeKEM(t, &v)
		}
	}
	count.report(t)
}

func checkTreeKEM(t *testing.T, v *treeKEMVector) {
	t.Helper()
	s := must[*labeled.Suite](t)(v.Suite.suite())
	tree := must[*ratchetTree](t)(parseRatchetTree(v.Tree))
	private := map[LeafIndex]privateKeys{}
	signatures := map[LeafIndex]SignaturePrivateKey{}
	for _, l := range v.Leaves {
		keys := privateKeys{l.Index.node(): l.Encryption}
		for _, p := range l.Secrets {
			key, _, err := nodeKeys(s, p.Secret)
			noError(t, err)
			keys[p.Node] = key
		}
		for n, key := range keys {
			public, err := s.PublicKey(key)
			noError(t, err)
			wantEqual(t, "public key", public, tree.key(n))
		}
		private[l.Index] = keys
		signatures[l.Index] = SignaturePrivateKey(l.Signature)
	}
	context := func(tree *ratchetTree) []byte {
		return encode(&groupContext{
			suite: v.Suite, groupID: GroupID(v.GroupID), epoch: v.Epoch,
			treeHash: tree.rootHash(s), transcriptHash: v.TranscriptHash,
		})
	}
	// receive processes a path as each member and returns the tree after it.
	receive := func(sender LeafIndex, up *updatePath, secrets []*hexBytes, commitSecret []byte) *ratchetTree {
		after := tree.clone()
		path := after.filteredPath(sender)
		noError(t, up.check(s, after, after.resolutions(path, nil)))
		if hash := after.setPath(s, sender, path, up.keys()); !bytes.Equal(hash, up.leaf.parentHash) {
			t.Fatalf("parent hash of the leaf: got %x, want %x", up.leaf.parentHash, hash)
		}
		after.setLeaf(sender, &up.leaf)
		for j, keys := range private {
			if j == sender {
				continue
			}
			got := maps.Clone(keys)
			for _, n := range sender.node().DirectPath(after.size()) {
				delete(got, n)
			}
			secret, err := up.decrypt(s, after, path, after.resolutions(path, nil), j, got, context(after))
			noError(t, err)
			wantEqual(t, "commit secret", secret, commitSecret)
			if secrets != nil {
				key, _, err := nodeKeys(s, *secrets[j])
				noError(t, err)
				wantEqual(t, "key from path secret", got[treemath.CommonAncestor(j.node(), sender.node())], key)
			}
		}
		return after
	}
	for _, p := range v.Paths {
		up := new(updatePath)
		noError(t, decode(p.Path, up))
		wantEqual(t, "update_path", encode(up), p.Path)
		after := receive(p.Sender, up, p.Secrets, p.Commit)
		wantEqual(t, "tree_hash_after", after.rootHash(s), p.Hash)

		// The same with a path of our own.
		mine := tree.clone()
		made, err := generatePath(s, mine.filteredPath(p.Sender))
		noError(t, err)
		leaf := *mine.leaf(p.Sender)
		leaf.source = sourceCommit
		_, leaf.encryptionKey, err = s.GenerateKeyPair()
		noError(t, err)
		leaf.parentHash = mine.setPath(s, p.Sender, made.path, made.public)
		noError(t, leaf.sign(s, signatures[p.Sender], GroupID(v.GroupID), p.Sender))
		mine.setLeaf(p.Sender, &leaf)
		nodes, err := made.encrypt(s, mine, nil, context(mine), 1)
		noError(t, err)
		receive(p.Sender, &updatePath{leaf: leaf, nodes: nodes}, nil, made.commitSecret)
	}
}
