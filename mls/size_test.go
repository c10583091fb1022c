package mls

import (
	"bytes"
	"errors"
	"testing"
)

// Large proposals that wait do not make the group larger than what can be read
// back from storage, whoever sends them.
func TestPendingProposalsHaveASize(t *testing.T) {
	w := newWorld(t, 2, 0)
	g, mallory := w.members[0], w.members[1]
	propose := func(from *Group) (*Message, error) {
		large := Extension{Type: ExtensionApplicationID, Data: randomBytes(3 << 20)}
		return from.Propose(&GroupContextExtensions{Extensions: []Extension{large}}, ProposeOptions{})
	}
	limited := func(err error) {
		t.Helper()
		var v *ValidationError
		if !errors.As(err, &v) || v.Section != "12.1" || v.Rule != "too many proposals are pending" {
			t.Errorf("%v", err)
		}
	}
	for range 2 {
		must[Received](t)(g.Process(must[*Message](t)(propose(mallory)), testNow))
		stored := must[[]byte](t)(g.MarshalBinary())
		g = must[*Group](t)(UnmarshalGroup(stored, g.SignatureKey(), acceptNamed))
	}
	before := must[[]byte](t)(g.MarshalBinary())
	_, err := propose(mallory)
	limited(err)
	mallory.proposals = nil // who cares about limits
	_, err = g.Process(must[*Message](t)(propose(mallory)), testNow)
	limited(err)
	if !bytes.Equal(before, must[[]byte](t)(g.MarshalBinary())) {
		t.Error("refused proposal changed the group")
	}
}

// A group whose tree is larger than a message can be stored; what could not be
// read again is not written.
func TestLargeGroupsAreStoredOrRefused(t *testing.T) {
	w := newWorld(t, 2, 0)
	g := w.members[0]
	large := NewBasicCredential(randomBytes(maxIdentity))
	stored := func(members int) error {
		h := g.Clone()
		h.tree = g.tree.clone()
		for range members {
			l := *g.tree.leaf(1)
			l.encryptionKey, l.signatureKey, l.credential = randomBytes(32), randomBytes(32), large
			must[LeafIndex](t)(h.tree.add(&l))
		}
		h.context.treeHash = h.tree.rootHash(h.suite)
		h.keys = newSecretTree(randomBytes(32), h.tree.size())
		b, err := h.MarshalBinary()
		if err != nil {
			return err
		}
		must[*Group](t)(UnmarshalGroup(b, h.SignatureKey(), acceptNamed))
		return nil
	}
	if err := stored(300); err != nil { // 19 MiB
		t.Error(err)
	}
	if stored(1100) == nil { // 69 MiB
		t.Error("group is stored that cannot be read")
	}
}

// An archive record that could not be read again is not written either.
func TestLargeArchivesAreRefused(t *testing.T) {
	r := must[*ArchiveRecord](t)(newWorld(t, 2, 0).members[0].Archive())
	large := NewBasicCredential(randomBytes(maxIdentity))
	for l := LeafIndex(2); l < 1100; l++ {
		r.roster = append(r.roster, Member{Leaf: l, Credential: large, SignatureKey: randomBytes(32)})
	}
	if _, err := r.MarshalBinary(); err == nil {
		t.Error("archive record is stored that cannot be read")
	}
}
