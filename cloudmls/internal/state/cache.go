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
		return errStoreClosed
	}
	return c.err
}

func (c *Cache) name(key string) string { return mac(c.names, c.bucket, key) }

// Get returns nil, nil where there is no such record. The caller owns the
// result.
func (c *Cache) Get(key string) ([]byte, error) {
	if err := c.usable(); err != nil {
		return nil, err
	}
	k := c.name(key)
	b, err := c.store.cfg.Local.Get(c.bucket, k)
	if err != nil {
		return nil, fmt.Errorf("read cache: %w", err)
	}
	if b == nil {
		return nil, nil
	}
	_, v, err := c.open(k, b)
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

// Put stores a record durably. v is not kept after the call.
func (c *Cache) Put(key string, v []byte) error {
	if err := c.usable(); err != nil {
		return err
	}
	k := c.name(key)
	pt := append(binary.BigEndian.AppendUint32(nil, uint32(len(key))), key...)
	b, err := envelope.Seal(c.key, localContext(c.store.cfg.Origin, typeCache, c.bucket, k), envelope.Header{}, append(pt, v...))
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	err = c.store.cfg.Local.Update(func(w Writer) error {
		// The list of namespaces is for SignOut.
		if err := w.Put(bucketSpaces, c.bucket, []byte{1}); err != nil {
			return err
		}
		return w.Put(c.bucket, k, b)
	})
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

// Delete of an absent record is no error.
func (c *Cache) Delete(key string) error {
	if err := c.usable(); err != nil {
		return err
	}
	k := c.name(key)
	if err := c.store.cfg.Local.Update(func(w Writer) error { return w.Delete(c.bucket, k) }); err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	return nil
}

// ForEach calls fn for each record of the namespace, in any order. fn must not
// call the cache. v is valid during the call only.
func (c *Cache) ForEach(fn func(key string, v []byte) error) error {
	if err := c.usable(); err != nil {
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
