package cloudmls

import (
	"context"
	"sync"
)

// locks is a set of named locks that can be waited for with a context.
type locks struct {
	mu   sync.Mutex
	held map[string]*namedLock
}

type namedLock struct {
	slot chan struct{} // holds one token while locked
	refs int           // holders and waiters
}

// lock waits for the name and returns what lets go of it.
func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	l.mu.Lock()
	if l.held == nil {
		l.held = make(map[string]*namedLock)
	}
	n := l.held[name]
	if n == nil {
		n = &namedLock{slot: make(chan struct{}, 1)}
		l.held[name] = n
	}
	n.refs++
	l.mu.Unlock()

	done := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if n.refs--; n.refs == 0 {
			delete(l.held, name)
		}
	}
	select {
	case n.slot <- struct{}{}:
		return func() { <-n.slot; done() }, nil
	case <-ctx.Done():
		done()
		return nil, ctx.Err()
	}
}

func syncLock(self Account) string { return "sync\x00" + self.String() }

func accountLock(self Account) string { return "account\x00" + self.String() }

func conversationLock(self Account, id ConversationID) string {
	return "conversation\x00" + self.String() + "\x00" + id.String()
}
