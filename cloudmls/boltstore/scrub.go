package boltstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// scrubStep is how much one transaction copies, in octets.
const scrubStep = 8 << 20

// Scrub writes the file anew with what is in it now, since bbolt leaves deleted
// and replaced values in pages that it has not used again, and puts it in the
// place of the old one. After a crash the old file or the new one is there. What
// the file system or the disk itself keeps of a deleted file is beyond it.
// Other calls wait.
func (s *Store) Scrub() error {
	s.swap.Lock()
	defer s.swap.Unlock()
	path := s.path
	if path == "" {
		return ErrClosed
	}
	next := path + ".new"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) { // of a run that was cut off
		return fmt.Errorf("scrub local store: %w", err)
	}
	// The new file is open, and so locked, before it takes the old one's place.
	db, err := bbolt.Open(next, 0o600, options())
	if err != nil {
		return fmt.Errorf("scrub local store: %w", err)
	}
	err = bbolt.Compact(db, s.db, scrubStep)
	if err == nil {
		err = db.Sync()
	}
	if err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("scrub local store: %w", err), db.Close(), os.Remove(next))
	}
	old := s.db
	s.db = db
	if err := old.Close(); err != nil {
		return fmt.Errorf("scrub local store: %w", err)
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes a rename durable.
func syncFolder(folder string) error {
	if !privateModes { // folders cannot be synced there
		return nil
	}
	f, err := os.Open(folder)
	if err != nil {
		return fmt.Errorf("scrub local store: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("scrub local store: %w", err)
	}
	return nil
}
