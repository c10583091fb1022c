package state

import (
	"errors"
	"maps"
	"sync"
)

// NewMemory returns a LocalStore that lives in memory, for tests and for
// programs that keep nothing.
func NewMemory() LocalStore { return &memory{buckets: map[string]map[string][]byte{}} }

type memory struct {
	mu      sync.RWMutex
	buckets map[string]map[string][]byte
	closed  bool
}

var errClosed = errors.New("local store is closed")

func (m *memory) Get(bucket, key string) ([]byte, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.closed {
		return nil, errClosed
	}
	v, ok := m.buckets[bucket][key]
	if !ok {
		return nil, nil
	}
	return append([]byte{}, v...), nil
}

func (m *memory) Update(fn func(w Writer) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return errClosed
	}
	var w memoryWriter
	if err := fn(&w); err != nil {
		return err
	}
	for _, c := range w {
		b := m.buckets[c.bucket]
		if b == nil {
			b = map[string][]byte{}
			m.buckets[c.bucket] = b
		}
		if c.value == nil {
			delete(b, c.key)
		} else {
			b[c.key] = c.value
		}
	}
	return nil
}

func (m *memory) ForEach(bucket string, fn func(key string, v []byte) error) error {
	m.mu.RLock()
	if m.closed {
		m.mu.RUnlock()
		return errClosed
	}
	b := maps.Clone(m.buckets[bucket])
	m.mu.RUnlock()
	for k, v := range b {
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

type memoryChange struct {
	bucket, key string
	value       []byte // nil: deleted
}

type memoryWriter []memoryChange

func (w *memoryWriter) Put(bucket, key string, v []byte) error {
	*w = append(*w, memoryChange{bucket, key, append([]byte{}, v...)})
	return nil
}

func (w *memoryWriter) Delete(bucket, key string) error {
	*w = append(*w, memoryChange{bucket, key, nil})
	return nil
}
