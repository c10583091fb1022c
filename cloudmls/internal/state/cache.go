package state

import (
	"encoding/binary"
	"fmt"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/cloudmls/internal/keys"
)

// Cache is a namespace of sealed local records. It is this device's alone, a
// hint that may be lost, and safe for concurrent use.
type Cache struct {
	store  *Store
	bucket string
	key    []byte // seals; gone with the vault
	names  []byte // hides the keys
	err    error
}

// Cache gives the sealed local key/value space of a namespace.
func (s *Store) Cache(namespace string) *Cache {
	if c, ok := s.caches.Load(namespace); ok {
		return c.(*Cache)
	}
	c := s.newCache(namespace)
	if c.err == nil {
		s.caches.Store(namespace, c)
	}
	return c
}

func (s *Store) newCache(namespace string) *Cache {
	s.vaultMu.Lock()
	local := s.vault.LocalKey
	s.vaultMu.Unlock()
	c := &Cache{store: s}
	if c.key, c.err = keys.Derive(local, keys.PurposeVault); c.err == nil {
		c.names, c.err = keys.Derive(local, keys.PurposeLocal)
	}
	c.bucket = "cache/" + mac(c.names, "namespace", namespace)[:32]
	return c
}

func (c *Cache) usable() error {
	if c.store.closed.Load() {
		return ErrClosed
	}
	return c.err
}

func (c *Cache) name(key string) string { return mac(c.names, c.bucket, key) }

// Entry is a record of a Cache, there or not: who reads and then writes one has
// its name hidden once.
type Entry struct {
	cache     *Cache
	key, name string
}

// Entry gives the record under a key.
func (c *Cache) Entry(key string) Entry { return Entry{c, key, c.name(key)} }

// Get returns nil, nil where there is no such record. The caller owns the
// result.
func (c *Cache) Get(key string) ([]byte, error) { return c.Entry(key).Get() }

// Get is Cache.Get.
func (e Entry) Get() ([]byte, error) {
	c := e.cache
	if err := c.usable(); err != nil {
		return nil, err
	}
	b := c.store.deferred.get(place{c.bucket, e.name})
	if b == nil {
		var err error
		if b, err = c.store.cfg.Local.Get(c.bucket, e.name); err != nil {
			return nil, fmt.Errorf("read cache: %w", err)
		}
	}
	if b == nil {
		return nil, nil
	}
	_, v, err := c.open(e.name, b)
	return v, err
}

func (c *Cache) open(k string, b []byte) (string, []byte, error) {
	_, v, err := envelope.Open(c.key, localContext(c.store.cfg.Origin, typeCache, c.bucket, k), envelope.Expect{}, b)
	if err != nil || len(v) < 4 {
		return "", nil, errLocal
	}
	n := binary.BigEndian.Uint32(v)
	if uint64(n) > uint64(len(v)-4) {
		return "", nil, errLocal
	}
	return string(v[4 : 4+n]), v[4+n:], nil
}

// Put stores a record durably, and all that was deferred with it. v is not kept
// after the call.
func (c *Cache) Put(key string, v []byte) error {
	p, b, err := c.Entry(key).seal(v)
	if err != nil {
		return err
	}
	return c.store.write(p, b)
}

// Defer stores a record for whoever reads it from now on; it is durable once
// Store.Flush, or a Put, returned nil. v is not kept after the call.
func (c *Cache) Defer(key string, v []byte) error { return c.Entry(key).Defer(v) }

// Defer is Cache.Defer.
func (e Entry) Defer(v []byte) error {
	c := e.cache
	p, b, err := e.seal(v)
	if err != nil {
		return err
	}
	if !c.store.deferred.add(p, b) {
		return c.store.write(p, b)
	}
	return nil
}

func (e Entry) seal(v []byte) (place, []byte, error) {
	c := e.cache
	if err := c.usable(); err != nil {
		return place{}, nil, err
	}
	pt := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(e.key)+len(v)), uint32(len(e.key))), e.key...)
	b, err := envelope.Seal(c.key, localContext(c.store.cfg.Origin, typeCache, c.bucket, e.name), envelope.Header{}, append(pt, v...))
	if err != nil {
		return place{}, nil, fmt.Errorf("write cache: %w", err)
	}
	return place{c.bucket, e.name}, b, nil
}

// Delete of an absent record is no error.
func (c *Cache) Delete(key string) error {
	if err := c.usable(); err != nil {
		return err
	}
	return c.store.write(place{c.bucket, c.name(key)}, nil)
}

// DeleteAll deletes records in one write.
func (c *Cache) DeleteAll(names []string) error {
	if err := c.usable(); err != nil || len(names) == 0 {
		return err
	}
	places := make([]place, len(names))
	for i, n := range names {
		places[i] = place{c.bucket, c.name(n)}
	}
	return c.store.erase(places)
}

// ForEach calls fn for each record of the namespace, in any order. fn must not
// call the cache. v is valid during the call only.
func (c *Cache) ForEach(fn func(key string, v []byte) error) error {
	if err := c.usable(); err != nil {
		return err
	}
	if err := c.store.Flush(); err != nil {
		return err
	}
	return c.store.cfg.Local.ForEach(c.bucket, func(k string, b []byte) error {
		key, v, err := c.open(k, b)
		if err != nil {
			return err
		}
		return fn(key, v)
	})
}
