package keyserver

import (
	"sync"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// waiters wakes long-polls when something was delivered to their account, or
// when their session ended.
type waiters struct {
	mu      sync.Mutex
	account map[keyapi.Account]map[*waiter]struct{}
	session map[SessionID]map[*waiter]struct{}
	polls   map[UserID]int
}

// waiter is one long-poll. c gets a value when it is worth looking again.
type waiter struct {
	c       chan struct{}
	who     identity
	account keyapi.Account
}

func newWaiters() *waiters {
	return &waiters{
		account: map[keyapi.Account]map[*waiter]struct{}{}, session: map[SessionID]map[*waiter]struct{}{}, polls: map[UserID]int{},
	}
}

// enter registers a long-poll; nil when the user has limit of them already.
// The caller looks for messages after it, so that none is missed, and leaves.
func (h *waiters) enter(who identity, a keyapi.Account, limit int) *waiter {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.polls[who.user] >= limit {
		return nil
	}
	w := &waiter{c: make(chan struct{}, 1), who: who, account: a}
	h.polls[who.user]++
	insert(h.account, a, w)
	insert(h.session, who.session, w)
	return w
}

func (h *waiters) leave(w *waiter) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.polls[w.who.user]--; h.polls[w.who.user] == 0 {
		delete(h.polls, w.who.user)
	}
	remove(h.account, w.account, w)
	remove(h.session, w.who.session, w)
}

func insert[K comparable](m map[K]map[*waiter]struct{}, k K, w *waiter) {
	if m[k] == nil {
		m[k] = map[*waiter]struct{}{}
	}
	m[k][w] = struct{}{}
}

func remove[K comparable](m map[K]map[*waiter]struct{}, k K, w *waiter) {
	if delete(m[k], w); len(m[k]) == 0 {
		delete(m, k)
	}
}

func (h *waiters) wake(accounts []keyapi.Account) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range accounts {
		for w := range h.account[a] {
			w.signal()
		}
	}
}

func (h *waiters) wakeSession(id SessionID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.session[id] {
		w.signal()
	}
}

// signal never blocks: one pending value is enough.
func (w *waiter) signal() {
	select {
	case w.c <- struct{}{}:
	default:
	}
}
