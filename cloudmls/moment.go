package cloudmls

import "context"

// Moment is a point in the life of a Client, for EncryptSince. The zero Moment
// is before all others.
type Moment uint64

// Moment gives the present one: Syncs that begin from now on are after it.
func (c *Client) Moment() Moment {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.began
}

// begin notes that a Sync begins.
func (c *Client) begin() Moment {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began++
	return c.began
}

func (c *Client) wentThrough(self Account, began Moment) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.synced[self] = max(c.synced[self], began)
}

// SyncedSince tells whether a Sync of an own account, in canonical form, began
// after m and went through.
func (c *Client) SyncedSince(self Account, m Moment) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.synced[self] > m
}

// syncSince syncs, unless a Sync of the account that began after m went
// through; nil stands for none. It is not by a clock, which may jump, nor by how
// old a Sync is: m is when the work began for which the state has to be fresh,
// and what happens at the key server after that could as well happen after the
// message was encrypted.
func (c *Client) syncSince(ctx context.Context, self Account, m *Moment) error {
	if m != nil && c.SyncedSince(self, *m) {
		return nil
	}
	_, err := c.sync(ctx, self)
	return err
}
