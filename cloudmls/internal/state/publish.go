package state

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/cloudmls/internal/envelope"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// publish makes a newer snapshot durable and current: the floor, the index, and
// the envelopes in objects. One that is not newer than the current changes
// nothing but the senders' floors.
func (s *Store) publish(n *snapshot, objects map[keyapi.ObjectID][]byte, senders map[keyapi.ObjectID]floor) error {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if s.wiped.Load() {
		return ErrClosed
	}
	before := s.now.Load()
	newer := before == nil || n.view.counter > before.view.counter
	var leftover, gone []string
	if newer {
		if err := s.rememberRoot(n); err != nil {
			return err
		}
		if before == nil {
			var err error
			if leftover, err = s.indexKeys(); err != nil {
				return err
			}
			if gone, err = s.orphans(n); err != nil {
				return err
			}
		} else {
			var err error
			if gone, err = s.replaced(before, n); err != nil {
				return err
			}
		}
	}
	err := s.cfg.Local.Update(func(w Writer) error {
		for id, f := range senders {
			if err := s.locals.putFloor(w, s.scope.User, localKey(id), f); err != nil {
				return err
			}
		}
		if !newer {
			return nil
		}
		for _, k := range leftover {
			if err := w.Delete(bucketIndex, k); err != nil {
				return err
			}
		}
		for _, k := range gone {
			if err := w.Delete(bucketObjects, k); err != nil {
				return err
			}
		}
		return s.writeView(w, before, n, objects)
	})
	if err != nil {
		return fmt.Errorf("write local store: %w", err)
	}
	if newer {
		s.now.Store(n)
	}
	return nil
}

// indexKeys lists what an earlier view left in the local index.
func (s *Store) indexKeys() ([]string, error) {
	var all []string
	err := s.cfg.Local.ForEach(bucketIndex, func(k string, _ []byte) error {
		all = append(all, k)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read local store: %w", err)
	}
	return all, nil
}

// orphans lists the envelopes here that a view does not name, and archive
// records that it names in another version: those of objects that were deleted
// or replaced while this device could not notice. What was deleted is not to be
// found on it.
func (s *Store) orphans(n *snapshot) ([]string, error) {
	head := bootstrapID(TypeHead)
	named := map[string]version{localKey(head): {id: head}}
	for i := range n.view.objects {
		for _, v := range n.view.objects[i] {
			named[localKey(v.id)] = v
		}
	}
	var all []string
	err := s.cfg.Local.ForEach(bucketObjects, func(k string, b []byte) error {
		v, ok := named[k]
		if !ok || typeOf(v.id) == TypeEpoch && envelope.Hash(b) != v.hash {
			all = append(all, k)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read local store: %w", err)
	}
	return all, nil
}

func (s *Store) rememberRoot(n *snapshot) error {
	s.vaultMu.Lock()
	known := s.vault.RootVersion == n.newest
	s.vaultMu.Unlock()
	if known {
		return nil
	}
	return s.changeVault(func(v *vault) { v.Root, v.RootVersion = n.roots[n.newest], n.newest })
}

// replaced lists the archive records here of which a view names another
// version: what they are replaced for may be that they held something which was
// deleted.
func (s *Store) replaced(before, n *snapshot) ([]string, error) {
	var all []string
	for i := range n.view.objects {
		if before.view.head.buckets[i] == n.view.head.buckets[i] {
			continue
		}
		for _, v := range n.view.objects[i] {
			if typeOf(v.id) != TypeEpoch || slices.Contains(before.view.objects[i], v) {
				continue
			}
			b, err := s.cfg.Local.Get(bucketObjects, localKey(v.id))
			if err != nil {
				return nil, fmt.Errorf("read local store: %w", err)
			}
			if b != nil && envelope.Hash(b) != v.hash {
				all = append(all, localKey(v.id))
			}
		}
	}
	return all, nil
}

// writeView writes what differs between two views. Envelopes that a newer one
// replaces stay until that is fetched, archive records apart: they are found by
// hash.
func (s *Store) writeView(w Writer, before, n *snapshot, objects map[keyapi.ObjectID][]byte) error {
	for i := range n.view.objects {
		var old []version
		if before != nil {
			if before.view.head.buckets[i] == n.view.head.buckets[i] {
				continue
			}
			old = before.view.objects[i]
		}
		for _, v := range old {
			if _, ok := n.view.find(v.id); ok {
				continue
			}
			for _, bucket := range []string{bucketIndex, bucketObjects} {
				if err := w.Delete(bucket, localKey(v.id)); err != nil {
					return err
				}
			}
		}
		for _, v := range n.view.objects[i] {
			if slices.Contains(old, v) {
				continue
			}
			entry := append(binary.BigEndian.AppendUint64(nil, v.counter), v.hash[:]...)
			if err := w.Put(bucketIndex, localKey(v.id), entry); err != nil {
				return err
			}
		}
	}
	for id, b := range objects {
		if err := w.Put(bucketObjects, localKey(id), b); err != nil {
			return err
		}
	}
	return s.locals.putFloor(w, s.scope.User, keyHead, floor{n.view.counter, n.view.hash})
}
