package keyserver

import (
	"sync"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// waiters wakes long-polls when something was delivered to their account, or
// when their session ended, in this process or, with a Shared store, in another.
type waiters struct {
	mu    sync.Mutex
	topic map[Topic]map[*waiter]struct{}
	polls map[UserID]int
	from  map[string]int // long-polls of each network prefix
}

var _ Subscriber = (*waiters)(nil)

// waiter is one long-poll. c gets a value when it is worth looking again.
type waiter struct {
	c       chan struct{}
	who     identity
	account keyapi.Account
	from    string
	topics  [2]Topic
}

func newWaiters() *waiters {
	return &waiters{topic: map[Topic]map[*waiter]struct{}{}, polls: map[UserID]int{}, from: map[string]int{}}
}

// enter registers a long-poll; nil when the user or the network has as many as
// it may already.
// The caller looks for messages after it, so that none is missed, and leaves.
func (h *waiters) enter(who identity, a keyapi.Account, from string, l *Limits) *waiter {
	w := &waiter{
		c: make(chan struct{}, 1), who: who, account: a, from: from, topics: [2]Topic{AccountTopic(a), SessionTopic(who.session)},
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.polls[who.user] >= l.LongPolls || l.LongPollsFrom >= 0 && h.from[from] >= l.LongPollsFrom {
		return nil
	}
	h.polls[who.user]++
	h.from[from]++
	for _, t := range w.topics {
		if h.topic[t] == nil {
			h.topic[t] = map[*waiter]struct{}{}
		}
		h.topic[t][w] = struct{}{}
	}
	return w
}

func (h *waiters) leave(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.polls[w.who.user]--; h.polls[w.who.user] == 0 {
		delete(h.polls, w.who.user)
	}
	if h.from[w.from]--; h.from[w.from] == 0 {
		delete(h.from, w.from)
	}
	for _, t := range w.topics {
		if delete(h.topic[t], w); len(h.topic[t]) == 0 {
			delete(h.topic, t)
		}
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
		for w := range h.topic[t] {
			w.signal()
		}
	}
}

// WakeAll has all long-polls look again.
func (h *waiters) WakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, all := range h.topic {
		for w := range all {
			w.signal()
		}
	}
}

// WaitingFor lists the accounts that are waited for, each once.
func (h *waiters) WaitingFor() []keyapi.Account {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := make(map[keyapi.Account]bool, len(h.topic))
	for _, all := range h.topic {
		for w := range all {
			seen[w.account] = true
		}
	}
	list := make([]keyapi.Account, 0, len(seen))
	for a := range seen {
		list = append(list, a)
	}
	return list
}

// signal never blocks: one pending value is enough.
func (w *waiter) signal() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}
