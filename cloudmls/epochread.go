package cloudmls

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
)

// epoch gives the record of an epoch, fetching it on demand; state.ErrNotFound
// if the verified state has none. A record lies alone, or in a bundle with those
// around it.
//
// What is in memory counts only as long as the verified state names the object
// that it was read from: a record that another device deleted does not open here
// because it was read before.
func (c *Client) epoch(ctx context.Context, self Account, group []byte, n uint64) (*epochRecord, error) {
	k := epochKey(self, group, n)
	if r := c.epochs.get(k, c.store.Version); r != nil {
		return r, nil
	}
	r, from, err := c.readEpoch(ctx, self, group, n)
	if err != nil {
		return nil, err
	}
	if string(r.archive.GroupID()) != string(group) || uint64(r.archive.Epoch()) != n {
		return nil, errors.New("epoch record: of another epoch")
	}
	c.epochs.put(k, r, from)
	return r, nil
}

// origin is the version of the object that something was read from, and of the
// one that said where it lies, if there was one.
type origin struct {
	object, index           state.Key
	version, indexedVersion uint64
}

// valid tells whether the verified state still says the same.
func (o *origin) valid(now versions) bool {
	if v, ok := now(o.object); !ok || v != o.version {
		return false
	}
	if o.index == (state.Key{}) {
		return true
	}
	v, ok := now(o.index)
	return ok && v == o.indexedVersion
}

func (c *Client) readEpoch(ctx context.Context, self Account, group []byte, n uint64) (*epochRecord, origin, error) {
	from := origin{object: epochKey(self, group, n)}
	var alone bool
	if from.version, alone = c.store.Version(from.object); alone {
		b, err := c.store.Get(ctx, from.object)
		if err == nil {
			r, err := decodeEpoch(b)
			return r, from, err
		}
		if !errors.Is(err, state.ErrNotFound) { // else it was packed a moment ago
			return nil, from, err
		}
	}
	b, from, err := c.bundle(ctx, self, group, n)
	if err != nil {
		return nil, from, err
	}
	r, err := b.epoch(n)
	return r, from, err
}

// bundle gives the bundle that holds an epoch; state.ErrNotFound if none does.
func (c *Client) bundle(ctx context.Context, self Account, group []byte, n uint64) (*bundle, origin, error) {
	from := origin{index: historyKey(self, group)}
	from.indexedVersion, _ = c.store.Version(from.index)
	h, err := c.history(ctx, self, group)
	if err != nil {
		return nil, from, err
	}
	first, ok := h.bundleOf(n)
	if !ok || n < h.From { // what is deleted may lie beside what is not, for a while
		return nil, from, state.ErrNotFound
	}
	from.object = bundleKey(self, group, first)
	from.version, _ = c.store.Version(from.object)
	if b := c.epochs.bundle(from.object, c.store.Version); b != nil {
		return b, from, nil
	}
	raw, err := c.store.Get(ctx, from.object)
	if err != nil {
		return nil, from, fmt.Errorf("archive records: %w", err)
	}
	b, err := decodeBundle(raw)
	if err != nil {
		return nil, from, err
	}
	c.epochs.putBundle(b, from)
	return b, from, nil
}

// history gives what is kept of a group's epochs, or an empty record.
func (c *Client) history(ctx context.Context, self Account, group []byte) (*historyRecord, error) {
	return c.reader(ctx, self).history(group)
}

const (
	// epochCacheSize is how many parsed archive records a client keeps in memory,
	// bundleCacheSize how many bundles.
	epochCacheSize  = 64
	bundleCacheSize = 2
)

// epochCache holds parsed archive records and bundles, with what they were read
// from. The zero value is ready to use.
type epochCache struct {
	mu      sync.Mutex
	records cacheOf[*epochRecord]
	bundles cacheOf[*bundle]
}

func (c *epochCache) get(k state.Key, now versions) *epochRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.records.get(k, now)
}

func (c *epochCache) put(k state.Key, r *epochRecord, from origin) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records.put(k, r, from, epochCacheSize)
}

func (c *epochCache) bundle(k state.Key, now versions) *bundle {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bundles.get(k, now)
}

func (c *epochCache) putBundle(b *bundle, from origin) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bundles.put(from.object, b, from, bundleCacheSize)
}

// forget drops everything, so that no deleted record stays in memory.
func (c *epochCache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records, c.bundles = cacheOf[*epochRecord]{}, cacheOf[*bundle]{}
}

// versions tells which version of an object the verified state names.
type versions func(state.Key) (uint64, bool)

// cacheOf is a bounded cache, the oldest entry making room.
type cacheOf[T any] struct {
	items map[state.Key]cached[T]
	order []state.Key // oldest first
}

type cached[T any] struct {
	value T
	from  origin
}

// get gives the zero value where there is none that counts.
func (c *cacheOf[T]) get(k state.Key, now versions) (none T) {
	x, ok := c.items[k]
	if !ok || !x.from.valid(now) {
		return none
	}
	return x.value
}

func (c *cacheOf[T]) put(k state.Key, value T, from origin, size int) {
	if c.items == nil {
		c.items = make(map[state.Key]cached[T])
	}
	if _, ok := c.items[k]; !ok {
		if len(c.order) >= size {
			delete(c.items, c.order[0])
			c.order = c.order[1:]
		}
		c.order = append(c.order, k)
	}
	c.items[k] = cached[T]{value, from}
}
