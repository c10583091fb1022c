package mls

import (
	"errors"
	"fmt"
	"testing"
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
			all := tr.checkMembers(c.extensions)
			since := tr.checkMembersSince(old, nil, c.extensions)
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
	if err := tr.checkMembersSince(old, appExtension, appExtension); err == nil {
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

func TestKeyFilter(t *testing.T) {
	f := newKeyFilter()
	keys := [][]byte{{}, {1}, {2}, {1, 2}, randomBytes(32), randomBytes(65), randomBytes(1216)}
	same := append([]byte{0}, keys[4][1:]...) // all but the first byte
	for i, k := range keys {
		if f.has(k) || !f.add(k) || !f.has(k) || f.add(k) {
			t.Errorf("key %d: is new once", i)
		}
	}
	if f.has(same) && same[0] != keys[4][0] {
		t.Error("another key is held for a known one")
	}
}
