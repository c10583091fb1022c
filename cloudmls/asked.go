package cloudmls

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

const (
	// askBudget is how many accounts that nobody wrote to are asked about in an
	// hour, at Syncs, and again for messages that are read. Whoever invites us to a
	// group of invented members must not use up what the key server answers us: it
	// would refuse to tell of those that people write to.
	askBudget = 64
	askWindow = time.Hour
	// rotationBudget is how many accounts are asked about in an hour, at Syncs,
	// because a key that the key server has confirmed signed a rotation. Until it is
	// heard, the key before counts, which may be in a thief's hands: it must not wait
	// behind members that somebody invented.
	rotationBudget = 16
	// requestBudget is how many accounts are asked about in an hour because of
	// requests that no known key has signed: see followRequests.
	requestBudget = 16
	// maxAsked bounds what is remembered.
	maxAsked = maxUnconfirmed

	// confirmAgain is when the key server is asked again about a key that it gave
	// no word on; confirmLater after the second time, confirmRarely from then on: see
	// pause.
	confirmAgain  = time.Hour
	confirmLater  = 24 * time.Hour
	confirmRarely = 7 * 24 * time.Hour
)

// asked remembers, as long as the Client lives, which keys the key server was
// asked about and did not confirm. It is safe for concurrent use.
type asked struct {
	mu    sync.Mutex
	keys  map[string]question  // by questionOf
	turns map[string]time.Time // by turnOf: when a rotation of the account was asked about

	syncing, reading, rotating, requesting budget
}

type question struct {
	last  time.Time
	times int
}

// questionOf names what is asked of a pin: what was said of the key before says
// nothing of another.
func questionOf(self Account, p *pinEntry) string {
	return self.String() + "\x00" + p.account().String() + "\x00" + string(p.doubtful())
}

// turnOf names the account whose rotation is asked about, whichever key it leads to:
// who has a key can sign any number of rotations of it.
func turnOf(self Account, p *pinEntry) string {
	return self.String() + "\x00" + p.account().String()
}

// pause is how long nothing is asked about a pin after a question that brought nothing.
//
// Of a key that only others have shown, the key server may never have heard: the pauses
// grow, for who shows such keys can invent as many as they like. Of a key that was
// confirmed they must not. Whoever has stolen it can sign a rotation to a key of their
// own that the key server will never confirm, and show that in a group of theirs before
// and after the owner's own rotation; were its pauses the growing ones, the owner's would
// not be heard of for a week, and the stolen key would count for so long (threats 44 and
// 52). So an hour is what the thief can hold the owner's rotation back by. A question
// names the account, not the key, so that whatever made it due, its answer brings the
// owner's key. It costs nothing that could not be had before: a thief who signs another
// rotation each time is asked about at once, each time. What bounds these questions is
// their budget, and the turns that page takes care of, not the pauses. The answer
// decides, and never what was shown: a key that nobody has signed for is not followed,
// nor one that the key server does not name (threat 45), so to ask more often gives the
// thief nothing; and a key server that gives an outdated answer (threat 48) is asked
// again within the hour.
func (q question) pause(p *pinEntry) time.Duration {
	switch {
	case q.times == 1, !p.Unconfirmed:
		return confirmAgain
	case q.times == 2:
		return confirmLater
	}
	return confirmRarely
}

// due gives those pins that it is time to ask about, those asked least first: of one
// that nobody asked about the last question is longer ago than any pause. A clock that
// was set back keeps nobody waiting for longer.
func (x *asked) due(self Account, list []*pinEntry, now time.Time) []*pinEntry {
	x.mu.Lock()
	defer x.mu.Unlock()
	times := map[*pinEntry]int{}
	list = slices.DeleteFunc(list, func(p *pinEntry) bool {
		q := x.keys[questionOf(self, p)]
		times[p] = q.times
		return now.Sub(q.last).Abs() < q.pause(p)
	})
	slices.SortStableFunc(list, func(a, b *pinEntry) int { return cmp.Compare(times[a], times[b]) })
	return list
}

// page gives what a Sync asks about of the pins that are due: first rotations that
// confirmed keys signed, those of accounts asked about longest ago or never, and of
// these the contacts known longest, so that accounts made for the purpose come last.
func (x *asked) page(self Account, due []*pinEntry) []*pinEntry {
	var rotating, others []*pinEntry
	for _, p := range due {
		if p.rotating() {
			rotating = append(rotating, p)
		} else {
			others = append(others, p)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	slices.SortStableFunc(rotating, func(a, b *pinEntry) int {
		return cmp.Or(x.turns[turnOf(self, a)].Compare(x.turns[turnOf(self, b)]), cmp.Compare(a.Since, b.Since))
	})
	return append(rotating[:min(len(rotating), rotationBudget)], others[:min(len(others), confirmPage)]...)
}

// note remembers a question.
func (x *asked) note(self Account, p *pinEntry, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.keys == nil || len(x.keys) >= maxAsked {
		x.keys = map[string]question{}
	}
	name := questionOf(self, p)
	x.keys[name] = question{now, x.keys[name].times + 1}
	if !p.rotating() {
		return
	}
	if x.turns == nil || len(x.turns) >= maxAsked {
		x.turns = map[string]time.Time{}
	}
	x.turns[turnOf(self, p)] = now
}

// forSync gives the budget that a Sync's question about a pin is taken from. Neither
// can use up the other.
func (x *asked) forSync(p *pinEntry) *budget {
	if p.rotating() {
		return x.rotating.of(rotationBudget)
	}
	return &x.syncing
}

// forReader is forSync for messages that are read.
func (x *asked) forReader(*pinEntry) *budget { return &x.reading }

// forRequest gives the budget for members who send a request that no known key has
// signed.
func (x *asked) forRequest(*pinEntry) *budget { return x.requesting.of(requestBudget) }

// budget is how many questions are left in the hour. It is safe for concurrent
// use; the zero value is a full one of askBudget, nil one without end.
type budget struct {
	mu    sync.Mutex
	since time.Time
	spent int
	most  int // in an hour; 0: askBudget
}

// of sets how many questions there are in an hour, and gives the budget.
func (b *budget) of(most int) *budget {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.most = most
	return b
}

// take uses up one question and tells whether there was one.
func (b *budget) take(now time.Time) bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.since).Abs() >= askWindow {
		b.since, b.spent = now, 0
	}
	if b.spent >= cmp.Or(b.most, askBudget) {
		return false
	}
	b.spent++
	return true
}

// giveBack undoes a take.
func (b *budget) giveBack() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.spent = max(0, b.spent-1)
}

// spend uses up what is left of the hour.
func (b *budget) spend(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.since, b.spent = now, cmp.Or(b.most, askBudget)
}
