package boltstore

import (
	"context"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"github.com/cloudmls/gateway/keyserver"
)

// Syncing is what a transaction costs, so those that arrive while one is being
// synced share the next one: whoever finds nobody at work runs what has queued
// up, and hands over to a goroutine if more has come meanwhile. A function that
// fails is undone by its journal and costs the others nothing. Nobody is told
// anything before the transaction is on disk, refusals included: they may rest
// on what another function of the same transaction wrote.

// Bounds of one shared transaction.
const (
	batchJobs   = 512
	batchOctets = 32 << 20
)

type job struct {
	ctx  context.Context
	fn   func(keyserver.Writer) error
	done chan struct{}

	err      error
	panicked any
}

var errNothingWritten = errors.New("nothing to write")

// Update runs fn in a transaction and returns after it is on disk. fn may run on
// another goroutine, and must neither call the Store nor runtime.Goexit.
func (s *Store) Update(ctx context.Context, fn func(keyserver.Writer) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j := &job{ctx: ctx, fn: fn, done: make(chan struct{})}
	s.mu.Lock()
	s.queue = append(s.queue, j)
	first := !s.busy
	s.busy = true
	s.mu.Unlock()
	if first {
		s.runQueue()
	}
	<-j.done
	if j.panicked != nil {
		panic(j.panicked)
	}
	return j.err
}

// runQueue runs one batch. s.busy is true, and stays so while anything is left.
func (s *Store) runQueue() {
	s.mu.Lock()
	n := min(len(s.queue), batchJobs)
	batch := s.queue[:n:n]
	s.queue = s.queue[n:]
	s.mu.Unlock()

	left := s.runBatch(batch)

	s.mu.Lock()
	s.queue = append(left, s.queue...)
	s.busy = len(s.queue) > 0
	more := s.busy
	s.mu.Unlock()
	if more {
		go s.runQueue()
	}
}

// runBatch runs jobs in one transaction and gives back those that it had no room for.
func (s *Store) runBatch(batch []*job) (left []*job) {
	ran := 0
	err := s.transaction(func(btx *bolt.Tx) error {
		octets, wrote := 0, false
		t := &tx{Tx: btx, journal: &journal{}, store: s}
		for _, j := range batch {
			if octets > batchOctets {
				break
			}
			ran++
			n, err := j.run(t)
			if err != nil {
				return err
			}
			octets += n
			wrote = wrote || n > 0
		}
		if !wrote {
			return errNothingWritten
		}
		return nil
	})
	if ran == 0 { // the file could not be used at all: true for everybody
		ran = len(batch)
	}
	for _, j := range batch[:ran] {
		if err != nil && !errors.Is(err, errNothingWritten) {
			j.err, j.panicked = fmt.Errorf("write key server store: %w", err), nil
		}
		close(j.done)
	}
	return batch[ran:]
}

// transaction is one of bbolt, which panics where it finds pages that cannot be.
// That is an error for all who share it, and not the end of the queue: whoever came
// later would wait for ever.
func (s *Store) transaction(fn func(*bolt.Tx) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the file is damaged: %v", v)
		}
	}()
	return s.db.Update(fn)
}

// run runs the function of a job in a transaction whose journal it has for
// itself; octets is what it has written. The error is that of the transaction,
// not that of the function.
func (j *job) run(t *tx) (octets int, err error) {
	if j.err = j.ctx.Err(); j.err != nil {
		return 0, nil
	}
	t.journal.begin()
	func() {
		defer func() { j.panicked = recover() }()
		j.err = j.fn(t)
	}()
	if j.err != nil || j.panicked != nil {
		return 0, t.journal.undo()
	}
	return t.journal.octets, nil
}
