package cloudmls

import (
	"context"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

const (
	// waitPauseFirst and waitPauseLast are how long Wait rests after an empty
	// answer that came early, the first time and at most.
	waitPauseFirst = time.Second
	waitPauseLast  = time.Minute
)

// Wait returns nil when the account's delivery queue has something that Sync
// did not see yet; it waits until then, until ctx ends, or until the Client is closed.
func (c *Client) Wait(ctx context.Context, self Account) error {
	ctx, w := c.newWaiter(ctx)
	defer c.dropWaiter(w)
	err := c.wait(ctx, self)
	if err != nil && c.closed.Load() {
		return ErrClosed
	}
	return err
}

// waiter is one call of Wait, which ends with the Client.
type waiter struct{ end context.CancelFunc }

func (c *Client) newWaiter(ctx context.Context) (context.Context, *waiter) {
	ctx, cancel := context.WithCancel(ctx)
	w := &waiter{cancel}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiters[w] = true
	return ctx, w
}

func (c *Client) dropWaiter(w *waiter) {
	w.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiters, w)
}

// endWaits ends what waits in a Client that is closed by now.
func (c *Client) endWaits() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.waiters {
		w.end()
	}
}

func (c *Client) wait(ctx context.Context, self Account) error {
	self, err := c.own(ctx, self)
	if err != nil {
		return err
	}
	const asked = keyapi.MaxWaitSeconds * time.Second
	pause := waitPauseFirst
	for {
		began := time.Now() // of the machine: requests take as long as they take
		page, err := c.deliveries(ctx, self, 1, asked)
		if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		if len(page.Messages) > 0 {
			return nil
		}
		if time.Since(began) >= asked/2 {
			pause = waitPauseFirst
			if err := ctx.Err(); err != nil {
				return err
			}
			continue
		}
		// A key server that does not wait, or something between that answers for it,
		// must not be asked as fast as it answers.
		if err := rest(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, waitPauseLast)
	}
}

func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
