package pgstore

import (
	"errors"
	"sync"
	"time"

	"github.com/cloudmls/gateway/keyserver"
)

// crowd is where transactions wait for a group to share a transaction of the
// database with. Nobody waits while there is nothing to share with: groups form
// of those that came while the ones before them were busy.
type crowd struct {
	store     *Store
	beginning string
	writing   bool
	most      int // members of a group

	mu      sync.Mutex
	waiting []*tx
	busy    map[int32]int // rows of table locks that groups of this process have, or want
	running int           // groups
	hurried *time.Timer   // will begin one more group; nil: not needed
}

const (
	// mostMembers of a group: some more would cost each other more time than they
	// save.
	mostMembers = 64
	// atOnce groups begin with whoever is there: while one waits for the disk, the
	// other has the processor.
	atOnce = 2
	// worthAGroup have to wait for each group that is under way before there is one
	// more: a statement for few costs as much as for many.
	worthAGroup = 32
	// patience is how long one waits if they do not come: the other groups may be
	// waiting for a lock.
	patience = 20 * time.Millisecond
	// mostPassed groups go ahead of somebody whose locks they have.
	mostPassed = 4
)

// newCrowds makes the two of a store. Where transactions that meet are given up
// and not made to wait, none is made to share the fate of others.
func newCrowds(s *Store) (updates, views *crowd) {
	updates = &crowd{store: s, beginning: "BEGIN ISOLATION LEVEL READ COMMITTED", writing: true, most: mostMembers, busy: map[int32]int{}}
	views = &crowd{store: s, beginning: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", most: mostMembers, busy: map[int32]int{}}
	if s.options.Serializable {
		updates.beginning, updates.most = "BEGIN ISOLATION LEVEL SERIALIZABLE", 1
		views.beginning = "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"
	}
	return updates, views
}

// enter waits until a group has taken the transaction in and asked what it asks.
// An error means that none has.
func (c *crowd) enter(t *tx) error {
	if err := t.ctx.Err(); err != nil {
		return errors.Join(keyserver.ErrUnavailable, err)
	}
	c.mu.Lock()
	c.waiting = append(c.waiting, t)
	c.begin(false)
	c.mu.Unlock()
	select {
	case <-t.answered:
		t.answered <- struct{}{} // for wait
		return nil
	case <-t.ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.waiting {
		if other == t {
			c.waiting = append(c.waiting[:i], c.waiting[i+1:]...)
			return errors.Join(keyserver.ErrUnavailable, t.ctx.Err())
		}
	}
	return nil // a group has it: its answer comes
}

// begin begins a group, if it is time for one. The caller holds mu.
func (c *crowd) begin(hurry bool) {
	n := len(c.waiting)
	switch {
	case n == 0:
	case c.running < atOnce || n >= c.running*worthAGroup || hurry && c.running < c.store.options.MaxConns:
		c.running++
		go c.lead()
	case c.hurried == nil:
		c.hurried = time.AfterFunc(patience, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.hurried = nil
			c.begin(true)
		})
	}
}

// take forms a group of those who have waited longest and have no lock in
// common, with each other or with a group under way: what one of them does is
// nothing to the others. Who has to wait keeps his place, and when that happened
// often nobody gets ahead of him who wants the same.
func (c *crowd) take() (members []*tx) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wanted := map[int32]bool{} // by those who wait on
	rest := c.waiting[:0]
	for _, t := range c.waiting {
		free := len(members) < c.most && (len(members) == 0 || !t.alone && !members[0].alone)
		t.passed++
		for _, row := range t.locking {
			free = free && c.busy[row] == 0 && !wanted[row]
		}
		if !free {
			for _, row := range t.locking {
				wanted[row] = wanted[row] || t.passed > mostPassed
			}
			rest = append(rest, t)
			continue
		}
		members = append(members, t)
		c.mark(t)
	}
	clear(c.waiting[len(rest):])
	c.waiting = rest
	if members == nil {
		c.running--
	}
	return members
}

// claim marks the rows that a member of a group wants besides. It refuses where
// it would have to wait for a group of this process, unless the member is by
// itself: then nobody waits with it.
func (c *crowd) claim(t *tx, company bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, row := range t.locking {
		if c.busy[row] > 0 && company {
			return false
		}
	}
	c.mark(t)
	return true
}

func (c *crowd) mark(t *tx) {
	for _, row := range t.locking {
		c.busy[row]++
	}
	t.claimed = append(t.claimed, t.locking...)
}

// release gives back the rows of a group that has ended.
func (c *crowd) release(members []*tx) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range members {
		for _, row := range t.claimed {
			if c.busy[row]--; c.busy[row] == 0 {
				delete(c.busy, row)
			}
		}
	}
}
