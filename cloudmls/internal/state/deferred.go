package state

import (
	"bytes"
	"fmt"
	"maps"
	"sync"
)

// maxDeferred is how many records may wait for a Flush. One more is written at
// once, and those with it.
const maxDeferred = 1024

// place is where a record of a Cache lies in the LocalStore.
type place struct{ bucket, key string }

// deferred are sealed records of the caches that are not on the disk yet: one
// transaction, and so one fsync, makes many durable. Readers see them at once.
type deferred struct {
	writing sync.Mutex // held through each write of cache records, so that they keep their order

	mu      sync.Mutex
	waiting map[place][]byte
}

// get gives what waits for a place, or nil. The caller must not change it.
func (d *deferred) get(p place) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.waiting[p]
}

// add reports whether there was room.
func (d *deferred) add(p place, b []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting = make(map[place][]byte)
	}
	if d.waiting[p] == nil && len(d.waiting) >= maxDeferred {
		return false
	}
	d.waiting[p] = b
	return true
}

func (d *deferred) all() map[place][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.waiting)
}

// written takes out what is on the disk now, unless a newer value came since.
func (d *deferred) written(records map[place][]byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for p, b := range records {
		if now, ok := d.waiting[p]; ok && bytes.Equal(now, b) { // sealed with a random salt: equal only if it is the same
			delete(d.waiting, p)
		}
	}
}

// Flush makes durable, in one step, all records that were deferred before it
// was called, by whomever. When it fails they wait on.
func (s *Store) Flush() error {
	s.deferred.writing.Lock()
	defer s.deferred.writing.Unlock()
	return s.writeAll(s.deferred.all(), nil)
}

// write stores one record, nil to delete it, and all that wait. When it fails,
// nothing has changed, and those wait on.
func (s *Store) write(p place, b []byte) error {
	return s.writeWith(map[place][]byte{p: b})
}

// erase deletes records, and stores all others that wait.
func (s *Store) erase(places []place) error {
	records := make(map[place][]byte, len(places))
	for _, p := range places {
		records[p] = nil
	}
	return s.writeWith(records)
}

func (s *Store) writeWith(records map[place][]byte) error {
	s.deferred.writing.Lock()
	defer s.deferred.writing.Unlock()
	before := s.deferred.all()
	after := maps.Clone(before)
	if after == nil {
		after = make(map[place][]byte, len(records))
	}
	maps.Copy(after, records)
	return s.writeAll(after, before)
}

// writeAll writes records; replaced is what waited of them, nil if that is the
// records themselves.
func (s *Store) writeAll(records, replaced map[place][]byte) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if len(records) == 0 {
		return nil
	}
	err := s.cfg.Local.Update(func(w Writer) error {
		spaces := make(map[string]bool)
		for p, b := range records {
			if b == nil {
				if err := w.Delete(p.bucket, p.key); err != nil {
					return err
				}
				continue
			}
			if !spaces[p.bucket] { // the list of namespaces is for SignOut
				if err := w.Put(bucketSpaces, p.bucket, []byte{1}); err != nil {
					return err
				}
				spaces[p.bucket] = true
			}
			if err := w.Put(p.bucket, p.key, b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write cache: %w", err)
	}
	if replaced == nil {
		replaced = records
	}
	s.deferred.written(replaced)
	return nil
}
