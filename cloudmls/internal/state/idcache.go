package state

import (
	"crypto/subtle"
	"sync"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// maxIDs is how many object ids are remembered.
const maxIDs = 1024

// idCache remembers object ids: each is an HMAC, and a message asks for the
// versions of several objects, mostly the same as the one before. The zero value is
// ready to use; it is safe for concurrent use.
type idCache struct {
	mu    sync.Mutex
	index []byte // K_index that ids are of
	ids   map[Key]keyapi.ObjectID
}

// of is objectID.
func (c *idCache) of(index []byte, k Key) keyapi.ObjectID {
	c.mu.Lock()
	defer c.mu.Unlock()
	if subtle.ConstantTimeCompare(c.index, index) == 0 || len(c.ids) >= maxIDs {
		c.index, c.ids = index, make(map[Key]keyapi.ObjectID)
	}
	id, ok := c.ids[k]
	if !ok {
		id = objectID(index, k)
		c.ids[k] = id
	}
	return id
}
