package cloudmls

import (
	"bytes"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// maxNamed bounds how many of the key server's answers are remembered.
const maxNamed = 1024

// naming is the key server's word for an account's identity key.
type naming struct {
	key []byte
	at  time.Time
}

func namingOf(self, a Account) string { return self.String() + "\x00" + a.String() }

// noteNamed remembers that the key server named a key, or forgets what it said
// before: an answer that there is no account is never kept.
func (c *Client) noteNamed(self, a Account, answer keyapi.Reachability) {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := namingOf(self, a)
	if !answer.HasAccount {
		delete(c.named, name)
		return
	}
	if len(c.named) >= maxNamed {
		clear(c.named)
	}
	c.named[name] = naming{bytes.Clone(answer.IdentityKey), c.now()}
}

// namedLately tells whether the key server named the pinned key at most age
// ago. A clock that was set back makes every answer too old.
func (c *Client) namedLately(self Account, p *pinEntry, age time.Duration) bool {
	if age <= 0 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.named[namingOf(self, Account{Platform: p.Platform, ID: p.ID})]
	old := c.now().Round(0).Sub(n.at.Round(0)) // of the clock on the wall: a computer may have slept
	return ok && bytes.Equal(n.key, p.Key) && old >= 0 && old <= age
}
