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
// did not see yet; it waits until then or until ctx ends.
func (c *Client) Wait(ctx context.Context, self Account) error {
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
