package session

import (
	"context"
	"sync"
	"time"
)

// maxGuarded bounds the user names whose failures are counted. Beyond it they
// share one counter, so that inventing names gains nothing.
const maxGuarded = 256

// loginGuard slows down guessing: after a number of wrong passwords in a row
// for one user name, each further attempt waits.
type loginGuard struct {
	mu       sync.Mutex
	failures map[string]int
}

func (g *loginGuard) key(user string) string {
	if _, ok := g.failures[user]; !ok && len(g.failures) >= maxGuarded {
		return ""
	}
	return user
}

// wait blocks before an attempt for a user whose counter is full.
func (g *loginGuard) wait(ctx context.Context, user string, l Limits) error {
	g.mu.Lock()
	full := g.failures[g.key(user)] >= l.MaxFailures
	g.mu.Unlock()
	if !full {
		return nil
	}
	t := time.NewTimer(l.FailureDelay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// note counts a failure, or forgets them after a success.
func (g *loginGuard) note(user string, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failures == nil {
		g.failures = make(map[string]int)
	}
	if ok {
		delete(g.failures, user)
		return
	}
	g.failures[g.key(user)]++
}
