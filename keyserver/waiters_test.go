package keyserver

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Whoever waits for something is woken by it, and by nothing else, in whatever
// order the others come and go.
func TestWaiters(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	h := newWaiters()
	l := DefaultLimits()
	l.LongPolls = 1000
	var waiting []*waiter
	sessions := map[*waiter]SessionID{}
	woken := func(w *waiter) bool {
		select {
		case <-w.c:
			return true
		default:
			return false
		}
	}
	for range 3000 {
		if random.IntN(2) == 0 || len(waiting) == 0 {
			a := keyapi.Account{Platform: "email", ID: fmt.Sprint(random.IntN(4))}
			who := identity{user: UserID{byte(random.IntN(3))}, session: SessionID{byte(random.IntN(4))}}
			w := h.enter(who, a, "net", &l)
			sessions[w] = who.session
			waiting = append(waiting, w)
		} else {
			i := random.IntN(len(waiting))
			h.leave(waiting[i])
			waiting = append(waiting[:i], waiting[i+1:]...)
		}
		a := keyapi.Account{Platform: "email", ID: fmt.Sprint(random.IntN(4))}
		h.wake([]keyapi.Account{a})
		for _, w := range waiting {
			if got := woken(w); got != (w.account == a) {
				t.Fatalf("%v woken by a message to %v: %v", w.account, a, got)
			}
		}
		session := SessionID{byte(random.IntN(4))}
		h.wakeSession(session)
		for _, w := range waiting {
			if got := woken(w); got != (sessions[w] == session) {
				t.Fatalf("session %v woken by the end of %v: %v", sessions[w], session, got)
			}
		}
		accounts := map[keyapi.Account]bool{}
		for _, w := range waiting {
			accounts[w.account] = true
		}
		if list := h.WaitingFor(); len(list) != len(accounts) {
			t.Fatalf("%d accounts are waited for, told %v", len(accounts), list)
		}
	}
	h.WakeAll()
	for _, w := range waiting {
		if !woken(w) {
			t.Error("not woken with all")
		}
		h.leave(w)
	}
	if len(h.topic)+len(h.polls)+len(h.from) != 0 {
		t.Errorf("left behind: %v %v %v", h.topic, h.polls, h.from)
	}
}
