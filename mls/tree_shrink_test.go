package mls

import (
	"bytes"
	"testing"
)

// A node that a shrinking tree loses, and that comes back as the root of a
// larger one, has nothing of what it was: its hash was that of another tree.
// (The members between had left first, so that nothing touched that node when
// the tree shrank twice at once.)
func TestShrunkenTreeForgetsItsRoot(t *testing.T) {
	w := newWorld(t, 9, 9)
	w.commit(0, CommitOptions{Remove: []LeafIndex{7, 6, 5, 4}})
	w.commit(0, CommitOptions{Remove: []LeafIndex{8}})
	if size := w.members[0].tree.size(); size != 4 {
		t.Fatalf("tree has %d leaves", size)
	}
	// Without a path nothing but the new leaf changes.
	kp, secrets := newKeyPackage(t, "new")
	p := w.commit(0, CommitOptions{Add: []*KeyPackage{kp}, WithoutPath: true})
	g := w.members[0]
	if whole := must[*ratchetTree](t)(parseRatchetTree(g.RatchetTree())); !bytes.Equal(whole.rootHash(g.suite), g.context.treeHash) {
		t.Error("tree hash is not that of the tree")
	}
	w.join(wire(t, p.Welcome), secrets)
	w.agree()
}
