package keyserver

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// waiters wakes long-polls when something was delivered to their account, or
// when their session ended, in this process or, with a Shared store, in another.
type waiters struct {
	mu    sync.Mutex
	topic map[Topic]*waiter // the first one of each; see link
	polls map[UserID]int
	from  map[string]int // long-polls of each network prefix
}

var _ Subscriber = (*waiters)(nil)

// waiter is one long-poll. c gets a value when it is worth looking again.
type waiter struct {
	c       chan struct{}
	timer   *time.Timer
	over    atomic.Bool // its time
	user    UserID
	account keyapi.Account
	from    string
	topics  [topicsOfOne]Topic
	links   [topicsOfOne]link // of the lists that it is in, one for each topic
}

// topicsOfOne is what one long-poll waits for: deliveries to its account, and
// the end of its session.
const topicsOfOne = 2

// link joins those who wait for one topic: a map of them would take more room
// than all else about a long-poll.
type link struct{ before, behind *waiter }

func newWaiters() *waiters {
	return &waiters{topic: map[Topic]*waiter{}, polls: map[UserID]int{}, from: map[string]int{}}
}

// enter registers a long-poll; nil when the user or the network has as many as
// it may already.
// The caller looks for messages after it, so that none is missed, and leaves.
func (h *waiters) enter(who identity, a keyapi.Account, from string, l *Limits) *waiter {
	w := &waiter{
		c: make(chan struct{}, 1), user: who.user, account: a, from: from, topics: [topicsOfOne]Topic{AccountTopic(a), SessionTopic(who.session)},
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.polls[who.user] >= l.LongPolls || l.LongPollsFrom >= 0 && h.from[from] >= l.LongPollsFrom {
		return nil
	}
	h.polls[who.user]++
	h.from[from]++
	for i, t := range w.topics {
		first := h.topic[t]
		w.links[i].behind = first
		if first != nil {
			first.links[i].before = w
		}
		h.topic[t] = w
	}
	return w
}

func (h *waiters) leave(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.polls[w.user]--; h.polls[w.user] == 0 {
		delete(h.polls, w.user)
	}
	if h.from[w.from]--; h.from[w.from] == 0 {
		delete(h.from, w.from)
	}
	for i, t := range w.topics {
		l := w.links[i]
		if l.behind != nil {
			l.behind.links[i].before = l.before
		}
		switch {
		case l.before != nil:
			l.before.links[i].behind = l.behind
		case l.behind != nil:
			h.topic[t] = l.behind
		default:
			delete(h.topic, t)
		}
	}
}

// each calls fn for all who wait for a topic. A topic has the same place in all
// of them: sessions and accounts have no topic in common.
func (h *waiters) each(t Topic, fn func(*waiter)) {
	for w := h.topic[t]; w != nil; {
		i := 0
		if w.topics[0] != t {
			i = 1
		}
		next := w.links[i].behind
		fn(w)
		w = next
	}
}

func (h *waiters) wake(accounts []keyapi.Account) {
	topics := make([]Topic, len(accounts))
	for i, a := range accounts {
		topics[i] = AccountTopic(a)
	}
	h.Wake(topics)
}

func (h *waiters) wakeSession(id SessionID) { h.Wake([]Topic{SessionTopic(id)}) }

// Wake has the long-polls of some topics look again.
func (h *waiters) Wake(topics []Topic) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range topics {
		h.each(t, (*waiter).signal)
	}
}

// WakeAll has all long-polls look again.
func (h *waiters) WakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for t := range h.topic {
		h.each(t, (*waiter).signal)
	}
}

// WaitingFor lists the accounts that are waited for, each once.
func (h *waiters) WaitingFor() []keyapi.Account {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := make(map[keyapi.Account]bool, len(h.topic))
	for t := range h.topic {
		h.each(t, func(w *waiter) { seen[w.account] = true })
	}
	list := make([]keyapi.Account, 0, len(seen))
	for a := range seen {
		list = append(list, a)
	}
	return list
}

// end is called when the time is over that the client wants to wait.
func (w *waiter) end() {
	w.over.Store(true)
	w.signal()
}

// signal never blocks: one pending value is enough.
func (w *waiter) signal() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}
