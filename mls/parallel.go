package mls

import (
	"sync"
	"sync/atomic"

	"github.com/cloudmls/gateway/mls/internal/labeled"
	"github.com/cloudmls/gateway/mls/internal/treemath"
)

// workers is on how many goroutines a caller allows work to be spread: one, its
// own, if it is below two. This file is the only place of the package that
// starts goroutines, and each ends before the call that started it returns.
type workers int

// batchSize is how many signatures are verified together. More of them save
// little, and are a larger piece of work for one goroutine.
const batchSize = 32

// hashedTogether is the number of leaves of a subtree whose hashes one goroutine
// computes. It is a power of two.
const hashedTogether = 64

// each calls f for 0 to n-1 and returns the error of the lowest index at which
// it fails, as a loop would that stops there; beyond that index f may have been
// called or not. Calls for different indices must not write to the same
// variable. If f panics, each does, in the caller's goroutine.
func (w workers) each(n int, f func(i int) error) error {
	count := min(int(w), n)
	if count < 2 {
		for i := range n {
			if err := f(i); err != nil {
				return err
			}
		}
		return nil
	}
	s := &spread{f: f, n: n, end: n}
	var wait sync.WaitGroup
	for range count - 1 {
		wait.Go(s.work)
	}
	s.work()
	wait.Wait()
	if s.panicked {
		panic(s.value)
	}
	return s.err
}

// spread is one call of each on several goroutines. Indices are handed out in
// ascending order, so that all below one that fails have been handed out too.
type spread struct {
	f    func(i int) error
	n    int
	next atomic.Int64

	mu       sync.Mutex
	end      int   // the lowest index that failed, or n
	err      error // of end
	panicked bool
	value    any // of the panic
}

func (s *spread) work() {
	defer func() {
		if v := recover(); v != nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.panicked, s.value, s.end = true, v, 0
		}
	}()
	for {
		i := int(s.next.Add(1)) - 1
		if i >= s.n || s.over(i) {
			return
		}
		if err := s.f(i); err != nil {
			s.fail(i, err)
		}
	}
}

func (s *spread) over(i int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return i >= s.end
}

func (s *spread) fail(i int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i < s.end {
		s.end, s.err = i, err
	}
}

// verify calls check for 0 to n-1, as each does, but lets the signatures of
// neighbours be verified together: to each batch it adds what check hands over.
// Where a batch does not verify, or a check fails, alone decides about its
// members one by one, from the lowest up; it must judge as check and the batch
// do. per is the number of signatures of one call.
func (w workers) verify(s *labeled.Suite, n, per int, check func(i int, b *labeled.Batch) error, alone func(i int) error) error {
	size := max(batchSize/per, 1)
	return w.each((n+size-1)/size, func(chunk int) error {
		from, to := chunk*size, min((chunk+1)*size, n)
		if verifyTogether(s, from, to, check) {
			return nil
		}
		for i := from; i < to; i++ {
			if err := alone(i); err != nil {
				return err
			}
		}
		return nil
	})
}

func verifyTogether(s *labeled.Suite, from, to int, check func(i int, b *labeled.Batch) error) bool {
	b := s.Batch()
	for i := from; i < to; i++ {
		if check(i, b) != nil {
			return false
		}
	}
	return b.Verify()
}

// hashSubtrees computes the hashes of all subtrees of some size, each by one
// goroutine; those above are left to rootHash. It does nothing if there is one
// goroutine only.
func (t *ratchetTree) hashSubtrees(s *labeled.Suite, w workers) {
	if w < 2 || t.size() < 2*hashedTogether {
		return
	}
	level := node(treemath.Root(hashedTogether)) // as the first of them, 2^k-1
	_ = w.each(int(t.size())/hashedTogether, func(i int) error {
		t.treeHash(s, node(i)*2*hashedTogether+level)
		return nil
	})
}
