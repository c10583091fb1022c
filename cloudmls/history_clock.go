package cloudmls

import (
	"context"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

const (
	// clockAgreement is how far this device's clock and the key server's may be
	// apart for either to be believed.
	clockAgreement = 24 * time.Hour
	// clockJump is how far time may have gone on since anything of the user looked
	// at it last, without being doubted; clockBack how far it may go back.
	clockJump = 7 * 24 * time.Hour
	clockBack = 24 * time.Hour
	// clockSteady is for how long time must have gone on without a jump.
	clockSteady = 24 * time.Hour
	// clockStep is how often looking at the clock is written down.
	clockStep = 6 * time.Hour
)

// ClockError says that nothing of the history is deleted, because the clocks of
// this device and of the key server do not agree. It is deleted when they do.
type ClockError struct {
	Own    time.Time
	Server time.Time // zero: the key server did not tell
}

// Error names both times.
func (e *ClockError) Error() string {
	if e.Server.IsZero() {
		return "history is not deleted: the key server does not tell the time"
	}
	return fmt.Sprintf("history is not deleted: this device's clock says %s, the key server's %s",
		e.Own.UTC().Format(time.RFC3339), e.Server.UTC().Format(time.RFC3339))
}

// clockRecord is the object history/clock: how time went on, as the devices of
// the user saw it. Milliseconds since 1970.
type clockRecord struct {
	Version int   `json:"v"`
	Last    int64 `json:"last"`   // the latest time seen
	Steady  int64 `json:"steady"` // since when there was no jump
}

func clockKey(self Account) state.Key {
	return state.Key{Type: state.TypeHistory, Account: self, Name: "clock"}
}

// see notes a time, and tells whether history may be deleted by it.
func (r *clockRecord) see(t time.Time) (steady bool) {
	now := t.UnixMilli()
	if r.Last == 0 || now > r.Last+clockJump.Milliseconds() || now < r.Last-clockBack.Milliseconds() {
		r.Last, r.Steady = now, now
		return false
	}
	r.Last = max(r.Last, now)
	return now >= r.Steady+clockSteady.Milliseconds()
}

// serverTime gives the key server's time, as of when it last renewed this
// device's session: some minutes ago at most, since an access token does not
// live longer.
func (c *Client) serverTime(ctx context.Context) (time.Time, error) {
	var at time.Time
	err := c.store.Authorized(ctx, func(ctx context.Context, token string) error {
		list, err := c.o.Server.Sessions(ctx, token)
		if err != nil {
			return err
		}
		for _, s := range list.Sessions {
			if s.Current {
				at = s.Used
			}
		}
		return nil
	})
	return at, err
}

// trustedTime gives a time that deleting by is safe, and whether it is: clocks
// that are wrong by months must not delete anything too early. Neither this
// device's clock nor the key server's is believed alone; they have to agree, and
// the earlier one counts. And since both may be one and the same clock, that of
// a computer which runs its own key server, time has to have gone on without a
// jump for a day, as seen by any of the user's devices: a jump that is noticed
// and set right within a day deletes nothing.
func (c *Client) trustedTime(ctx context.Context, self Account) (t time.Time, steady bool, err error) {
	server, err := c.serverTime(ctx)
	if err != nil {
		return t, false, fmt.Errorf("ask for the time: %w", err)
	}
	own := c.now()
	if apart := own.Sub(server); server.IsZero() || apart.Abs() > clockAgreement {
		return t, false, &ClockError{Own: own, Server: server}
	}
	if t = own; server.Before(own) {
		t = server
	}
	old := &clockRecord{}
	if _, err := c.reader(ctx, self).read(clockKey(self), old); err != nil {
		return t, false, fmt.Errorf("history: %w", err)
	}
	next := *old
	next.Version = recordVersion
	steady = next.see(t)
	if old.Last != 0 && next.Steady == old.Steady && next.Last-old.Last < clockStep.Milliseconds() {
		return t, steady, nil
	}
	err = c.update(ctx, self, func(_ *state.Tx, v *view) error {
		now := &clockRecord{}
		if _, err := v.read(clockKey(self), now); err != nil {
			return err
		}
		now.Version = recordVersion
		steady = now.see(t)
		return v.put(clockKey(self), now)
	})
	if err != nil {
		return t, false, fmt.Errorf("history: %w", err)
	}
	return t, steady, nil
}
