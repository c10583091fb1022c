package mls

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// opaque is a vector of bytes.
type opaque struct{ b []byte }

func (o *opaque) marshal(w *codec.Writer) { w.Opaque(o.b) }

// raggedTrees are trees with blank nodes and unmerged leaves, as groups make
// them that grow and shrink at random.
func raggedTrees(t *testing.T, seeds uint64, each func(g *Group)) {
	t.Helper()
	blanks, unmerged := 0, 0
	for seed := range seeds {
		rnd := rand.New(rand.NewPCG(seed, 7))
		w := newWorld(t, 6, 6)
		for range 14 {
			i := rnd.IntN(len(w.members))
			switch k := rnd.IntN(9); {
			case k < 2:
				w.add(i, 1+rnd.IntN(2))
			case k < 4 && len(w.members) > 3:
				victim := w.members[rnd.IntN(len(w.members))].OwnLeaf()
				if victim != w.members[i].OwnLeaf() {
					w.commit(i, CommitOptions{Remove: []LeafIndex{victim}})
				}
			case k < 8:
				// Added without a path: unmerged below all of its nodes.
				kp, s := newKeyPackage(t, "quiet")
				p := w.commit(i, CommitOptions{Add: []*KeyPackage{kp}, WithoutPath: true})
				w.join(p.Welcome, s)
			default:
				w.commit(i, CommitOptions{})
			}
			g := w.members[0]
			for n := node(1); n < g.tree.width(); n += 2 {
				if p := g.tree.parent(n); p == nil {
					blanks++
				} else {
					unmerged += len(p.unmerged)
				}
			}
			checkIndex(t, g.tree)
			each(g)
		}
	}
	if blanks < 50 || unmerged < 40 {
		t.Fatalf("trees with %d blank nodes and %d unmerged leaves test nothing", blanks, unmerged)
	}
}

// Parent hashes with blank nodes and unmerged leaves: every tree that honest
// members make is accepted (not too strict), and every key, hash and list of
// unmerged leaves in it counts (not too lax).
func TestElsewhere_ParentHashWithBlanksAndUnmergedLeaves(t *testing.T) {
	changes := 0
	raggedTrees(t, 3, func(g *Group) {
		s := g.suite
		tree := must[*ratchetTree](t)(parseRatchetTree(encode(g.tree)))
		noError(t, tree.verifyJoined(s, &g.context, 1))
		_, foreign, err := s.GenerateKeyPair()
		noError(t, err)
		for n := node(1); n < tree.width(); n += 2 {
			p := tree.parent(n)
			if p == nil {
				continue
			}
			refused := func(what string, change func(p *parentNode)) {
				t.Helper()
				changes++
				bad := must[*ratchetTree](t)(parseRatchetTree(encode(tree)))
				c := *p
				c.unmerged = slices.Clone(p.unmerged)
				change(&c)
				bad.setParent(n, &c)
				if bad.verifyJoined(s, &g.context, 1) == nil {
					t.Errorf("node %d of %d leaves: %s is accepted", n, tree.size(), what)
				}
			}
			refused("foreign key", func(p *parentNode) { p.encryptionKey = foreign })
			refused("parent hash", func(p *parentNode) { p.parentHash = append(bytes.Clone(p.parentHash), 1) })
			for at := range p.unmerged {
				refused("unmerged leaf left out", func(p *parentNode) { p.unmerged = slices.Delete(p.unmerged, at, at+1) })
			}
			for l := range LeafIndex(tree.size()) {
				at, found := slices.BinarySearch(p.unmerged, l)
				if !found {
					refused("unmerged leaf made up", func(p *parentNode) { p.unmerged = slices.Insert(p.unmerged, at, l) })
				}
			}
		}
	})
	if changes < 500 {
		t.Errorf("only %d changes were tried", changes)
	}
}

// What one message costs does not depend on the size of the group: neither the
// tree nor the roster is decoded or copied for it.
func TestElsewhere_TreeIsNotDecodedPerMessage(t *testing.T) {
	const runs = 20
	costs := func(n int) (process, open float64) {
		w := newWorld(t, n, 1)
		r := must[*ArchiveRecord](t)(w.members[1].Archive())
		var messages []*Message
		for range runs + 2 {
			messages = append(messages, must[*Message](t)(w.members[0].Protect([]byte("x"), ProtectOptions{})))
		}
		must[Received](t)(w.members[1].Process(messages[0], testNow))
		at := 0
		process = testing.AllocsPerRun(runs, func() {
			at++
			must[Received](t)(w.members[1].Process(messages[at], testNow))
		})
		open = testing.AllocsPerRun(runs, func() { must[*Application](t)(r.Open(messages[0])) })
		return process, open
	}
	small, smallOpen := costs(4)
	large, largeOpen := costs(256)
	if large > small+4 {
		t.Errorf("processing a message allocates %.0f times in a group of 256, %.0f in one of 4", large, small)
	}
	// Six more levels of the secret tree, two secrets each.
	if largeOpen > smallOpen+6*40 {
		t.Errorf("opening a message allocates %.0f times in a group of 256, %.0f in one of 4", largeOpen, smallOpen)
	}
}

// A tree whose right half has no member is refused, whatever it ends with.
func TestTreeIsNoLargerThanItsMembersNeed(t *testing.T) {
	w := newWorld(t, 2, 1)
	g := w.members[0]
	for size := uint32(2); size <= 8; size *= 2 {
		tree := newRatchetTree(size)
		tree.setLeaf(0, g.tree.leaf(0))
		tree.setParent(node(size-1), g.tree.parent(g.tree.root()))
		if _, err := parseRatchetTree(encode(tree)); err == nil || !strings.Contains(err.Error(), "larger than its members need") {
			t.Errorf("%d leaves, one member: got %v", size, err)
		}
	}
}
