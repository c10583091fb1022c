package cloudmls

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// Cache is a sealed key-value store on this device, for what can be rebuilt:
// losing it loses no message. It is safe for concurrent use.
type Cache struct {
	c *state.Cache
}

// Cache gives a namespace of this device's sealed local cache. Namespaces of
// callers never meet those of this package.
func (c *Client) Cache(namespace string) *Cache {
	return &Cache{c: c.store.Cache("app/" + namespace)}
}

// Get gives the value, or nil if there is none. The caller owns it.
func (c *Cache) Get(key string) ([]byte, error) { return c.c.Get(key) }

// Put stores a value durably. Key and value together have 15 MiB at most.
func (c *Cache) Put(key string, value []byte) error { return c.c.Put(key, value) }

// Defer stores a value that readers see at once and that is durable after
// Client.Settle, or after any Put. Many values cost one write to the disk so.
func (c *Cache) Defer(key string, value []byte) error { return c.c.Defer(key, value) }

// Settle makes durable all that was deferred, by whomever: Cache.Defer and
// Client.DecryptDeferred. It is cheap where there is nothing. When it fails,
// what was deferred waits for the next one.
func (c *Client) Settle() error {
	if err := c.usable(); err != nil {
		return err
	}
	if err := c.store.Flush(); err != nil {
		return fmt.Errorf("write local store: %w", err)
	}
	return nil
}

// Delete removes a value; a missing one is no error.
func (c *Cache) Delete(key string) error { return c.c.Delete(key) }

// ForEach calls fn for each entry, in no particular order, until fn fails. fn
// must not call the cache.
func (c *Cache) ForEach(fn func(key string, value []byte) error) error { return c.c.ForEach(fn) }

// markDevice remembers when this device began: what happened before, it could
// not have seen at the time.
func (c *Client) markDevice() error {
	device := c.store.Cache("sdk/device")
	b, err := device.Get("since")
	if err != nil {
		return fmt.Errorf("read local store: %w", err)
	}
	if b != nil {
		return nil
	}
	if err := device.Put("since", binary.BigEndian.AppendUint64(nil, uint64(c.now().UnixMilli()))); err != nil {
		return fmt.Errorf("write local store: %w", err)
	}
	return nil
}

func (c *Client) deviceSince() (time.Time, error) {
	b, err := c.store.Cache("sdk/device").Get("since")
	if err != nil {
		return time.Time{}, fmt.Errorf("read local store: %w", err)
	}
	if len(b) != 8 {
		return c.now(), nil // a cache that was lost: this device remembers nothing
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b))), nil
}
