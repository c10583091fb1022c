package mls

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// Targets as parts of the time that the same takes on one core, or one by one.
const (
	twoCoreTarget = 1 / 1.7
	batchTarget   = 1 / 1.5
)

// benchTwoCores compares creating and joining on two cores with the same on
// one. This is time on the clock and not of the processor, so that it depends on
// what else the machine does: the figure two-cores tells what it makes of work
// that has no serial part, which is the least that the others can reach.
func benchTwoCores(b *testing.B, r *reference, c *clients, p *population, n int) {
	par := fmt.Sprintf("N=%d", n)
	if runtime.NumCPU() < 2 {
		fmt.Printf("two-cores %s ours=none ref=none ratio=none target=%.2f short (this machine has one core)\n", par, twoCoreTarget)
		return
	}
	bare1, bare2 := onCores(b, func(cores int) error {
		return workers(cores).each(max(n, 100)/batchSize, func(int) error { return r.batch() })
	})
	figure("two-cores", par, bare2, bare1, 0)
	target := twoCoreTarget
	if n < targetFrom {
		target = 0
	}
	if n-1 <= MaxProposals {
		one, two := onCores(b, func(cores int) error {
			g := newGroup(b, "member 0")
			_, err := g.Commit(CommitOptions{Add: c.packages[:n-1], Now: testNow, Parallel: cores})
			return err
		})
		figure("create-two-cores", par, two, one, target)
	}
	one, two := onCores(b, func(cores int) error {
		_, err := JoinWelcome(p.welcome, JoinOptions{Secrets: p.secrets, Validate: acceptNamed, Parallel: cores})
		return err
	})
	figure("join-two-cores", par, two, one, target)
}

// onCores returns the least time on the clock of f on one core and on two, in
// turns, so that other work on the machine meets both.
func onCores(b *testing.B, f func(cores int) error) (one, two time.Duration) {
	b.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	best := [3]time.Duration{1: 1 << 62, 2: 1 << 62}
	for begin, round := time.Now(), 0; round < 3 || round < 40 && time.Since(begin) < 4*time.Second; round++ {
		for cores := 1; cores <= 2; cores++ {
			runtime.GOMAXPROCS(cores)
			runtime.GC()
			start := time.Now()
			if err := f(cores); err != nil {
				b.Fatal(err)
			}
			best[cores] = min(best[cores], time.Since(start))
		}
	}
	return best[1], best[2]
}

// benchBatch compares one leaf signature of a full batch with one by itself.
func benchBatch(r *reference) {
	figure("batch-verify", fmt.Sprintf("signatures=%d", batchSize), r.batched(), r.verify(leafBytes), batchTarget)
}

// batched is the verification of one of a batch of leaf signatures.
func (r *reference) batched() time.Duration {
	return r.one("batch", 0, func([]byte) error { return r.batch() }) / batchSize
}

// batch verifies one batch of leaf signatures.
func (r *reference) batch() error {
	if r.signed == nil {
		for range batchSize {
			private, public, err := r.suite.GenerateSignatureKey()
			if err != nil {
				return err
			}
			signature, err := r.suite.Sign(private, "LeafNodeTBS", make([]byte, leafBytes))
			if err != nil {
				return err
			}
			r.signed = append(r.signed, [2][]byte{public, signature})
		}
	}
	batch := r.suite.Batch()
	for _, x := range r.signed {
		batch.Add(x[0], "LeafNodeTBS", make([]byte, leafBytes), x[1])
	}
	if !batch.Verify() {
		return labeled.ErrSignature
	}
	return nil
}
