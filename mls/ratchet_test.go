package mls

import (
	"errors"
	"math/rand/v2"
	"testing"
)

func testTree(t testing.TB, leaves uint32) (*secretTree, *ArchiveRecord) {
	t.Helper()
	s, err := testSuite.suite()
	if err != nil {
		t.Fatal(err)
	}
	secret := randomBytes(s.Nh)
	return newSecretTree(secret, leaves), &ArchiveRecord{suite: s, leaves: leaves, encryptionSecret: secret}
}

// Messages that arrive in any order within the limits find their keys once.
func TestRatchetOutOfOrder(t *testing.T) {
	tree, record := testTree(t, 4)
	for _, n := range rand.Perm(500) {
		g := uint32(n)
		use := must[*keyUse](t)(tree.use(record.suite, 2, applicationRatchet, g, MaxGenerationJump))
		wantEqual(t, "key", use.key, must[messageKey](t)(record.key(2, g)).key)
		if _, err := tree.use(record.suite, 2, applicationRatchet, g, MaxGenerationJump); err != nil {
			t.Fatalf("generation %d is gone before it was consumed: %v", g, err)
		}
		tree.consume(use)
		if _, err := tree.use(record.suite, 2, applicationRatchet, g, MaxGenerationJump); !errors.Is(err, ErrReplayed) {
			t.Fatalf("generation %d, again: got %v", g, err)
		}
	}
	if tree.skipped != 0 {
		t.Errorf("%d keys are kept for nothing", tree.skipped)
	}
}

func TestRatchetLimits(t *testing.T) {
	tree, record := testTree(t, 1)
	s := record.suite
	if _, err := tree.use(s, 0, applicationRatchet, MaxGenerationJump+1, MaxGenerationJump); !errors.Is(err, ErrGenerationTooFar) {
		t.Errorf("jump: got %v", err)
	}
	if _, err := tree.use(s, 0, applicationRatchet, MaxGeneration, MaxGeneration); !errors.Is(err, ErrGenerationTooFar) {
		t.Errorf("last: got %v", err)
	}
	if _, err := tree.use(s, 1, applicationRatchet, 0, 1); !errors.Is(err, ErrNotMember) {
		t.Errorf("leaf beyond the tree: got %v", err)
	}
	for g := uint32(MaxGenerationJump); g < 4*MaxGenerationJump; g += MaxGenerationJump {
		tree.consume(must[*keyUse](t)(tree.use(s, 0, applicationRatchet, g, MaxGenerationJump)))
		if n := len(tree.ratchets[0][applicationRatchet].skipped); n > MaxSkippedKeys || n != tree.skipped {
			t.Fatalf("%d keys are kept, counted %d, limit %d", n, tree.skipped, MaxSkippedKeys)
		}
	}
	if _, err := tree.use(s, 0, applicationRatchet, 0, MaxGenerationJump); !errors.Is(err, ErrReplayed) {
		t.Errorf("oldest skipped key: got %v", err)
	}
	if _, err := tree.use(s, 0, applicationRatchet, 3*MaxGenerationJump-1, MaxGenerationJump); err != nil {
		t.Errorf("newest skipped key: got %v", err)
	}
}

// All senders together keep a bounded number of keys.
func TestRatchetTotalLimit(t *testing.T) {
	tree, record := testTree(t, 128)
	for l := range LeafIndex(80) {
		tree.consume(must[*keyUse](t)(tree.use(record.suite, l, applicationRatchet, MaxGenerationJump, MaxGenerationJump)))
	}
	n := 0
	for _, r := range tree.ratchets {
		n += r.skipped()
	}
	if n != tree.skipped || n > maxSkippedKeys {
		t.Errorf("%d keys are kept, counted %d, limit %d", n, tree.skipped, maxSkippedKeys)
	}
}

func TestProtectUntilTheLimit(t *testing.T) {
	g := newGroup(t, "alone")
	r := g.keys.open
	use := must[*keyUse](t)(r(g.suite, 0))
	use.ratchets[applicationRatchet] = &ratchet{secret: randomBytes(32), next: MaxGeneration - 1}
	g.keys.consume(use)
	if _, err := g.Protect(nil, ProtectOptions{}); err != nil {
		t.Errorf("last generation: %v", err)
	}
	if _, err := g.Protect(nil, ProtectOptions{}); !errors.Is(err, ErrGenerationTooFar) {
		t.Errorf("one more: got %v, want %v", err, ErrGenerationTooFar)
	}
}
