package mls

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// stepTarget is how many times as long as its unavoidable operations a step
// may take, in groups of at least targetFrom members.
const (
	stepTarget = 1.25
	targetFrom = 100
)

// BenchmarkMLS measures every step in groups of many sizes and prints one line
// a figure (make bench-mls); it fails for no figure. All is done on one core
// and timed in processor time, but for benchTwoCores. MLS_BENCH_SIZES chooses the sizes of groups.
func BenchmarkMLS(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	r := newReference(b)
	c := new(clients)
	benchBatch(r)
	for _, n := range benchSizes(b) {
		c.grow(b, n)
		r.again()
		benchCreate(b, r, c, n)
		p := fresh(b, c, n)
		benchGroup(b, r, p, n, "fresh")
		benchTwoCores(b, r, c, p, n)
		benchMessages(b, r, p, n)
		benchArchive(b, p, n)
		p = grown(b, c, p, n)
		r.again()
		benchGroup(b, r, p, n, "grown")
	}
	for b.Loop() {
	}
}

func benchSizes(b *testing.B) []int {
	list := []int{2, 10, 100, 1000, 10000}
	chosen := os.Getenv("MLS_BENCH_SIZES")
	if chosen == "" {
		return list
	}
	list = nil
	for _, s := range strings.Split(chosen, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 2 || n > MaxLeaves {
			b.Fatalf("MLS_BENCH_SIZES: %q is no size of a group", s)
		}
		list = append(list, n)
	}
	return list
}

func target(n int) float64 {
	if n < targetFrom {
		return 0
	}
	return stepTarget
}

// benchCreate makes a group and adds all by one Commit.
func benchCreate(b *testing.B, r *reference, c *clients, n int) {
	if n-1 > MaxProposals {
		fmt.Printf("create N=%d ours=refused ref=none ratio=none target=%.2f short (MaxProposals is %d)\n", n, stepTarget, MaxProposals)
		return
	}
	var p *PendingCommit
	d := measure(b, nil, func(int) (err error) {
		g := newGroup(b, "member 0")
		p, err = g.Commit(CommitOptions{Add: c.packages[:n-1], Now: testNow})
		return err
	})
	tree := len(encode(p.Staged.next.tree))
	figure("create", fmt.Sprintf("N=%d", n), d, r.create(n, encodedSize(b, p.Commit), tree), target(n))
}

// benchGroup measures the steps between members, and sizes.
func benchGroup(b *testing.B, r *reference, p *population, n int, kind string) {
	par := fmt.Sprintf("%s N=%d", kind, n)
	tree := len(encode(p.first.tree))
	join := func(int) error {
		p.join(b)
		return nil
	}
	figure("join", par, measure(b, nil, join), r.join(n, parents(p.first.tree), tree), target(n))
	bytes, objects := allocated(b, func() error { return join(0) })
	size("join-memory", par, "B", bytes, uint64(tree), 0)
	size("join-objects", par, "", objects, uint64(n), 0)

	var pending *PendingCommit
	d := measure(b, nil, func(int) (err error) {
		pending, err = p.first.Commit(CommitOptions{})
		return err
	})
	commit := encodedSize(b, pending.Commit)
	seals := sealed(p.first.tree, 0)
	figure("commit", par, d, r.commit(n, seals, commit), target(n))

	received := wire(b, pending.Commit)
	d = measure(b, nil, func(int) error {
		_, err := p.last.Process(received, testNow)
		return err
	})
	figure("process", par, d, r.process(n, 1, commit), target(n))
	size("commit-size", par, "B", uint64(commit), uint64(seals*(1+32+1+48)+depth(n)*33+2*leafBytes), 0)

	if n > 2 {
		gone := LeafIndex(n / 2)
		var removal *PendingCommit
		d = measure(b, nil, func(int) (err error) {
			removal, err = p.first.Commit(CommitOptions{Remove: []LeafIndex{gone}})
			return err
		})
		t := p.first.tree.clone()
		t.remove(gone)
		figure("remove", par, d, r.commit(n, sealed(t, 0), encodedSize(b, removal.Commit)), target(n))
	}

	record, err := p.first.Archive()
	if err != nil {
		b.Fatal(err)
	}
	size("welcome-size", par, "B", uint64(encodedSize(b, p.welcome)), uint64(tree+len(p.welcome.welcome.secrets)*(33+33+2+16+33+2+33)), 0)
	size("state-size", par, "B", uint64(encodedSize(b, p.first)), uint64(tree), stateTarget(n))
	size("record-size", par, "B", uint64(encodedSize(b, record)), uint64(n*(32+10)), 0)
}

// stateTarget: a state of 1000 members is at most 1.1 times its ratchet tree.
func stateTarget(n int) float64 {
	if n < 1000 {
		return 0
	}
	return 1.1
}

// benchMessages protects and opens messages of 1 KiB.
func benchMessages(b *testing.B, r *reference, p *population, n int) {
	text := make([]byte, 1024)
	par := fmt.Sprintf("N=%d", n)
	sender := p.first.Clone()
	d := measure(b, func(int) { sender = p.first.Clone() }, func(int) error {
		_, err := sender.Protect(text, ProtectOptions{})
		return err
	})
	figure("protect-1KiB", par, d, r.sign(len(text)+contextBytes)+r.message(len(text)+70), stepTarget)

	var sent []*Message
	var receiver *Group
	d = measure(b, func(calls int) {
		sender, receiver, sent = p.first.Clone(), p.last.Clone(), sent[:0]
		for range calls {
			m, err := sender.Protect(text, ProtectOptions{})
			if err != nil {
				b.Fatal(err)
			}
			sent = append(sent, m)
		}
	}, func(i int) error {
		_, err := receiver.Process(sent[i], testNow)
		return err
	})
	figure("open-1KiB", par, d, r.verify(len(text)+contextBytes)+r.message(len(text)+70), stepTarget)
}

// benchArchive opens messages of several generations from a record that has
// seen the sender before. The target is 50 µs over generation 0.
func benchArchive(b *testing.B, p *population, n int) {
	record, err := p.last.Archive()
	if err != nil {
		b.Fatal(err)
	}
	seal, err := p.first.Archive()
	if err != nil {
		b.Fatal(err)
	}
	var first time.Duration
	for _, generation := range []uint32{0, 1000, 10000} {
		m, err := seal.Seal(make([]byte, 1024), p.first.signature, ProtectOptions{Generation: &generation})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := record.Open(m); err != nil {
			b.Fatal(err)
		}
		d := measure(b, nil, func(int) error {
			app, err := record.Open(m)
			if err == nil && app.Generation != generation {
				err = errors.New("wrong generation")
			}
			return err
		})
		if generation == 0 {
			first = d
		}
		figure("archive-open", fmt.Sprintf("N=%d generation=%d", n, generation), d, first+50*time.Microsecond, 1)
	}
}
