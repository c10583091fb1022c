package smtpd

import (
	"context"
	"sync"
	"time"
)

// maxThrottled bounds the user names whose failures are remembered.
const maxThrottled = 1024

// throttle slows down guessing. The answer to a wrong password is held back
// once a user name has failed FreeLoginFailures times in a row; a right
// password is never held back, so nobody can lock the owner out. Together with
// the limit of connections that have not logged in this bounds the rate.
type throttle struct {
	delay time.Duration
	wait  func(ctx context.Context, d time.Duration) error

	mu     sync.Mutex
	failed map[string]int
}

func newThrottle(delay time.Duration) *throttle {
	return &throttle{delay: delay, wait: wait, failed: make(map[string]int)}
}

// wait returns after d, or earlier with the context's error.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// failure counts a wrong password and returns how long to hold back the
// answer.
func (t *throttle) failure(username string) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.failed[username]; !known && len(t.failed) >= maxThrottled {
		return t.delay // someone tries names; all unknown ones are slow now
	}
	t.failed[username]++
	if t.failed[username] <= FreeLoginFailures {
		return 0
	}
	return t.delay
}

// success forgets the failures of a user name.
func (t *throttle) success(username string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.failed, username)
}
