package mls

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// What checking only the changes of a tree finds is what checking all of it
// finds: for each rule a change that breaks it alone, and changes that do not.
func TestCheckingChangesFindsWhatCheckingAllFinds(t *testing.T) {
	w := newWorld(t, 16, 16)
	old := w.members[0].tree
	// leaf puts a changed copy of a leaf into a tree, with keys of its own
	// unless change says otherwise.
	leaf := func(tr *ratchetTree, i LeafIndex, change func(*leafNode)) {
		l := *tr.leaf(i)
		l.encryptionKey, l.signatureKey = randomBytes(32), randomBytes(32)
		if change != nil {
			change(&l)
		}
		tr.setLeaf(i, &l)
	}
	parent := func(tr *ratchetTree, n node, key []byte) {
		p := *tr.parent(n)
		p.encryptionKey = key
		tr.setParent(n, &p)
	}
	appExtension := []Extension{{Type: 0xf0f0, Data: []byte{1}}}
	shared := randomBytes(32)
	for _, c := range []struct {
		name       string
		valid      bool
		extensions []Extension
		change     func(tr *ratchetTree)
	}{
		{"nothing", true, nil, func(*ratchetTree) {}},
		{"a leaf", true, nil, func(tr *ratchetTree) { leaf(tr, 3, nil) }},
		{"a leaf takes the keys that another one gave up", true, nil, func(tr *ratchetTree) {
			gone := tr.leaf(4)
			tr.remove(4)
			leaf(tr, 3, func(l *leafNode) { l.encryptionKey, l.signatureKey = gone.encryptionKey, gone.signatureKey })
		}},
		{"the right half goes", true, nil, func(tr *ratchetTree) {
			for i := LeafIndex(8); i < 16; i++ {
				tr.remove(i)
			}
			tr.truncate()
			leaf(tr, 0, func(l *leafNode) { l.encryptionKey = old.leaf(12).encryptionKey })
		}},
		{"the tree is extended", true, nil, func(tr *ratchetTree) {
			l := *tr.leaf(0)
			l.encryptionKey, l.signatureKey = randomBytes(32), randomBytes(32)
			must[LeafIndex](t)(tr.add(&l))
		}},
		{"encryption key of another leaf", false, nil, func(tr *ratchetTree) {
			leaf(tr, 3, func(l *leafNode) { l.encryptionKey = tr.leaf(9).encryptionKey })
		}},
		{"encryption key of a parent", false, nil, func(tr *ratchetTree) {
			leaf(tr, 3, func(l *leafNode) { l.encryptionKey = tr.parent(17).encryptionKey })
		}},
		{"signature key of another leaf", false, nil, func(tr *ratchetTree) {
			leaf(tr, 3, func(l *leafNode) { l.signatureKey = tr.leaf(9).signatureKey })
		}},
		{"two new leaves with one encryption key", false, nil, func(tr *ratchetTree) {
			leaf(tr, 3, func(l *leafNode) { l.encryptionKey = shared })
			leaf(tr, 4, func(l *leafNode) { l.encryptionKey = shared })
		}},
		{"two new leaves with one signature key", false, nil, func(tr *ratchetTree) {
			leaf(tr, 3, func(l *leafNode) { l.signatureKey = shared })
			leaf(tr, 4, func(l *leafNode) { l.signatureKey = shared })
		}},
		{"new parent with a leaf's key", false, nil, func(tr *ratchetTree) { parent(tr, 1, tr.leaf(9).encryptionKey) }},
		{"new parent with a parent's key", false, nil, func(tr *ratchetTree) { parent(tr, 1, tr.parent(17).encryptionKey) }},
		{"new parent with a new leaf's key", false, nil, func(tr *ratchetTree) {
			leaf(tr, 3, func(l *leafNode) { l.encryptionKey = shared })
			parent(tr, 1, shared)
		}},
		{"added leaf in an extended tree with another's key", false, nil, func(tr *ratchetTree) {
			l := *tr.leaf(0)
			l.signatureKey = randomBytes(32)
			must[LeafIndex](t)(tr.add(&l))
		}},
		{"credential type that the others lack", false, nil, func(tr *ratchetTree) {
			leaf(tr, 3, func(l *leafNode) {
				l.credential = Credential{Type: 0xf00f}
				l.capabilities = l.capabilities.clone()
				l.capabilities.Credentials = append(l.capabilities.Credentials, 0xf00f)
			})
		}},
		{"leaf that lacks the others' credential type", false, nil, func(tr *ratchetTree) {
			leaf(tr, 3, func(l *leafNode) {
				l.capabilities = l.capabilities.clone()
				l.capabilities.Credentials = []CredentialType{CredentialX509}
			})
		}},
		{"extensions that nobody supports", false, appExtension, func(*ratchetTree) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := old.clone()
			c.change(tr)
			whole := tr.clone() // changed, so it has no index
			all := whole.checkMembers(nil, c.extensions)
			since := tr.checkMembers(nil, c.extensions)
			if since == nil {
				checkIndex(t, tr)
			}
			if rule(all) != rule(since) {
				t.Errorf("all: %v, changes: %v", all, since)
			}
			if (all == nil) != c.valid {
				t.Errorf("valid is %v: %v", c.valid, all)
			}
		})
	}
	// A new leaf must support the extensions that the group has already.
	tr := old.clone()
	leaf(tr, 3, nil)
	if err := tr.checkMembers(appExtension, appExtension); err == nil {
		t.Error("new leaf lacks an extension of the group")
	}
}

// rule is the rule that err says is broken; which section it is found in
// depends on which of two nodes is looked at first.
func rule(err error) string {
	var v *ValidationError
	if errors.As(err, &v) {
		return v.Rule
	}
	return fmt.Sprint(err)
}

// checkIndex makes sure that the index of a tree says what is in the tree.
func checkIndex(t *testing.T, tr *ratchetTree) {
	t.Helper()
	if tr.index == nil || len(tr.changed) > 0 {
		t.Fatal("tree has no index")
	}
	encryption, signature := 0, 0
	credentials := map[CredentialType]int{}
	for n := range tr.width() {
		if k := tr.key(n); k != nil {
			encryption++
			if at, ok := tr.index.encryption.find(tr, k); !ok || at != n {
				t.Errorf("key of node %d is found at %d, %v", n, at, ok)
			}
		}
		if l := tr.leafAt(n); l != nil {
			signature++
			credentials[l.credential.Type]++
			if at, ok := tr.index.signature.find(tr, l.signatureKey); !ok || at != n {
				t.Errorf("signature key of node %d is found at %d, %v", n, at, ok)
			}
		}
	}
	if e, s := tr.index.encryption.used, tr.index.signature.used; e != encryption || s != signature {
		t.Errorf("index has %d and %d keys, the tree %d and %d", e, s, encryption, signature)
	}
	if !maps.Equal(tr.index.credentials, credentials) {
		t.Errorf("index counts credentials %v, the tree has %v", tr.index.credentials, credentials)
	}
}

// The index of a tree that grows and shrinks at random is always that of the
// whole tree, and the trees before stay as they were.
func TestIndexFollowsTheTree(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	key := func() []byte { return binary.BigEndian.AppendUint32(nil, rnd.Uint32()) }
	leaf := func() *leafNode {
		ct := CredentialType(1 + rnd.IntN(2))
		return &leafNode{
			encryptionKey: key(), signatureKey: key(), credential: Credential{Type: ct},
			capabilities: Capabilities{Credentials: []CredentialType{1, 2}},
		}
	}
	tr := newRatchetTree(1)
	tr.setLeaf(0, leaf())
	noError(t, tr.checkMembers(nil, nil))
	rebuilt := 0
	for step := range 400 {
		next := tr.clone()
		before := encode(tr)
		for range 1 + rnd.IntN(1+step%40) {
			l := LeafIndex(rnd.IntN(int(next.size())))
			switch k := rnd.IntN(10); {
			case next.leaf(l) == nil || step < 200 && k < 5 || k < 3:
				must[LeafIndex](t)(next.add(leaf()))
			case k < 7:
				next.update(l, leaf())
			case k < 9 && l > 0:
				next.remove(l)
				next.truncate()
			default:
				for _, n := range l.node().DirectPath(next.size()) {
					next.setParent(n, &parentNode{encryptionKey: key()})
				}
				next.setLeaf(l, leaf())
			}
		}
		if step%20 == 19 {
			shrinkTwice(t, step, next)
		}
		probe := next.changed
		for _, c := range probe {
			if k := next.key(c.node); k != nil && !next.hasKey(k) {
				t.Fatalf("step %d: changed node %d has a key that the tree has not", step, c.node)
			}
		}
		noError(t, next.checkMembers(nil, nil))
		if next.index.encryption.seed != tr.index.encryption.seed {
			rebuilt++
		}
		checkIndex(t, next)
		checkIndex(t, tr)
		if rnd.IntN(3) > 0 { // hashes are kept, so that later changes can leave stale ones
			checkHashes(t, step, next)
		}
		if !bytes.Equal(before, encode(tr)) {
			t.Fatalf("step %d: the tree before has changed", step)
		}
		tr = next
	}
	if rebuilt == 0 || rebuilt > 200 {
		t.Errorf("index was made anew %d times", rebuilt)
	}
}

// shrinkTwice removes all leaves but the first quarter and the last one, and
// then the last one: the tree halves more than once in one step.
func shrinkTwice(t *testing.T, step int, tr *ratchetTree) {
	t.Helper()
	last := LeafIndex(tr.size() - 1)
	for tr.leaf(last) == nil {
		last--
	}
	for l := LeafIndex(max(1, tr.size()/4)); l < last; l++ {
		if tr.leaf(l) != nil {
			tr.remove(l)
		}
	}
	checkHashes(t, step, tr)
	if last > 0 {
		tr.remove(last)
		tr.truncate()
	}
}

// checkHashes compares the hash of a tree, of which parts are kept, with that of
// the same nodes without any.
func checkHashes(t *testing.T, step int, tr *ratchetTree) {
	t.Helper()
	s, ok := labeled.ByID(1)
	if !ok {
		t.Fatal("no suite 1")
	}
	fresh := tr.clone()
	for n := range fresh.width() {
		fresh.nodes.change(int(n)).hash = nil
	}
	if !bytes.Equal(tr.rootHash(s), fresh.rootHash(s)) {
		t.Fatalf("step %d: a hash of the tree is stale", step)
	}
}

// A key is in the tree where it was before, where it came to, and nowhere else.
func TestHasKey(t *testing.T) {
	w := newWorld(t, 8, 8)
	old := w.members[0].tree
	tr := old.clone()
	has := func(what string, want bool, key []byte) {
		t.Helper()
		if tr.hasKey(key) != want {
			t.Errorf("%s: has it is %v", what, !want)
		}
		if whole := tr.clone(); len(tr.changed) > 0 && whole.hasKey(key) != want {
			t.Errorf("%s: without an index, has it is %v", what, !want)
		}
	}
	moved := tr.leaf(3).encryptionKey
	has("key of a leaf", true, moved)
	has("key of the root", true, tr.key(tr.root()))
	has("foreign key", false, randomBytes(32))
	tr.remove(3)
	has("key of a removed leaf", false, moved)
	has("key of a blanked parent", false, old.key(old.root()))
	has("key of another leaf", true, tr.leaf(4).encryptionKey)
	l := *tr.leaf(5)
	l.encryptionKey = moved
	tr.setLeaf(5, &l)
	has("key that moved", true, moved)
	has("key that it replaced", false, old.leaf(5).encryptionKey)
}

// Clones of a chunked array are independent, whichever of them changes.
func TestChunked(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	type pair struct {
		array *chunked[int]
		want  []int
	}
	list := []pair{{newChunked[int](0), nil}}
	for step := range 3000 {
		p := &list[rnd.IntN(len(list))]
		switch k := rnd.IntN(20); {
		case k == 0:
			list = append(list, pair{p.array.clone(), slices.Clone(p.want)})
		case k == 1:
			n := rnd.IntN(5 * chunkSize)
			p.array.resize(n)
			p.want = append(p.want[:min(n, len(p.want))], make([]int, max(n-len(p.want), 0))...)
		case p.array.n > 0:
			i := rnd.IntN(p.array.n)
			*p.array.change(i), p.want[i] = step, step
		}
		for at, q := range list {
			if q.array.n != len(q.want) {
				t.Fatalf("step %d: array %d has %d elements, not %d", step, at, q.array.n, len(q.want))
			}
			for i, v := range q.want {
				if *q.array.at(i) != v {
					t.Fatalf("step %d: array %d has %d at %d, not %d", step, at, *q.array.at(i), i, v)
				}
			}
		}
		if len(list) > 12 {
			list = slices.Delete(list, 0, 6)
		}
	}
}

// A Commit in a large group shares all of the tree but what it changes.
func TestCommitSharesTheTree(t *testing.T) {
	w := newWorld(t, 300, 1)
	g := w.members[0]
	p := must[*PendingCommit](t)(g.Commit(CommitOptions{}))
	old, next := g.tree.nodes, p.Staged.next.tree.nodes
	shared := 0
	for i, c := range next.chunks {
		if c == old.chunks[i] {
			shared++
		}
	}
	// A path of nine nodes above the first leaf, five of them in its chunk.
	if own := len(next.chunks) - shared; own > 6 {
		t.Errorf("%d of %d chunks were copied", own, len(next.chunks))
	}
	before := must[[]byte](t)(g.MarshalBinary())
	noError(t, g.Merge(p.Staged))
	staged := must[*PendingCommit](t)(g.Commit(CommitOptions{Remove: []LeafIndex{7}}))
	after := must[[]byte](t)(g.MarshalBinary())
	must[*PendingCommit](t)(g.Commit(CommitOptions{Remove: []LeafIndex{8}}))
	if !bytes.Equal(after, must[[]byte](t)(g.MarshalBinary())) || bytes.Equal(before, after) {
		t.Error("a Commit that was not merged changes the group")
	}
	noError(t, g.Merge(staged.Staged))
	if g.tree.leaf(7) != nil || g.tree.leaf(8) == nil {
		t.Error("a staged Commit was changed by one made later")
	}
	checkIndex(t, g.tree)
}

// Clones of a group share their tree, and are independent all the same: each may
// be used by a goroutine of its own (the race detector looks on).
func TestClonesAreUsedTogether(t *testing.T) {
	w := newWorld(t, 40, 2)
	before := must[[]byte](t)(w.members[0].MarshalBinary())
	var wait sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		g := w.members[i%2].Clone()
		wait.Go(func() {
			for n := range 5 {
				p, err := g.Clone().Commit(CommitOptions{Remove: []LeafIndex{LeafIndex(5 + 5*i + n)}, Parallel: 2})
				if err == nil {
					err = g.Merge(p.Staged)
				}
				if err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wait.Wait()
	noError(t, errors.Join(errs...))
	if !bytes.Equal(before, must[[]byte](t)(w.members[0].MarshalBinary())) {
		t.Error("the group has changed")
	}
	checkIndex(t, w.members[0].tree)
}
