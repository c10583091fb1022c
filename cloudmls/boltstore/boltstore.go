// Package boltstore keeps a device's local records of package cloudmls in one
// file (bbolt). Everything in it was sealed before it came here: the file tells
// how many records there are and how large, not what they say. Each update is
// one transaction, on disk (fsync) before it returns.
//
//	store, err := boltstore.Open("/home/alice/.local/state/cloudmls/device.db")
//	...
//	client, err := cloudmls.Resume(ctx, cloudmls.Options{Store: store, ...})
package boltstore

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/cloudmls/gateway/cloudmls"
)

// Version is the version of the file's layout.
const Version = 1

// lockPatience is how long Open waits for another process to let go of the
// file: enough for one that is just ending, not enough to look hung.
const lockPatience = 500 * time.Millisecond

var (
	// ErrLocked: another process has the file open.
	ErrLocked = errors.New("local store is in use by another process")
	// ErrVersion: the file was written by a version of this program that lays
	// it out differently.
	ErrVersion = errors.New("local store has another version")
	// ErrFormat: the file is not a local store, or is damaged.
	ErrFormat = errors.New("not a local store")
	// ErrPermissions: others than the owner can read or write the file.
	ErrPermissions = errors.New("local store is accessible to other users")
	// ErrClosed: the store was closed.
	ErrClosed = errors.New("local store is closed")
)

var (
	metaBucket = []byte("meta")
	magicKey   = []byte("magic")
	versionKey = []byte("version")
	magic      = []byte("cloudmls local store")
	dataPrefix = "b/" // before callers' bucket names, so that none is "meta"
)

// Store is a cloudmls.LocalStore. It is safe for concurrent use within one
// process; the file belongs to one process at a time.
type Store struct {
	swap sync.RWMutex // held for writing while Scrub changes db
	db   *bbolt.DB
	path string
}

var _ cloudmls.LocalStore = (*Store)(nil)

// Open opens the file, creating it with mode 0600 where there is none. The
// folder must exist. Errors match ErrLocked, ErrVersion, ErrFormat and
// ErrPermissions.
func Open(path string) (*Store, error) {
	if err := checkFile(path); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(path, 0o600, options())
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, fmt.Errorf("%w: %s", ErrLocked, path)
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrVersionMismatch), errors.Is(err, berrors.ErrChecksum):
		return nil, fmt.Errorf("%w: %s: %w", ErrFormat, path, err)
	case err != nil:
		return nil, fmt.Errorf("open local store: %w", err)
	}
	if err := checkMeta(db); err != nil {
		return nil, errors.Join(fmt.Errorf("open local store %s: %w", path, err), db.Close())
	}
	return &Store{db: db, path: path}, nil
}

func options() *bbolt.Options {
	return &bbolt.Options{Timeout: lockPatience, FreelistType: bbolt.FreelistMapType}
}

// checkFile refuses files that are not ours alone before bbolt touches them.
func checkFile(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("open local store: %w", err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s is not a regular file", ErrFormat, path)
	case privateModes && info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%w: %s has mode %04o, want 0600", ErrPermissions, path, info.Mode().Perm())
	}
	return nil
}

// checkMeta writes the marks of a new file and checks those of an old one.
func checkMeta(db *bbolt.DB) error {
	return db.Update(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta == nil {
			if k, _ := tx.Cursor().First(); k != nil {
				return fmt.Errorf("%w: a database of another program", ErrFormat)
			}
			var err error
			if meta, err = tx.CreateBucket(metaBucket); err != nil {
				return err
			}
			if err := meta.Put(magicKey, magic); err != nil {
				return err
			}
			return meta.Put(versionKey, []byte(strconv.Itoa(Version)))
		}
		if !bytes.Equal(meta.Get(magicKey), magic) {
			return fmt.Errorf("%w: a database of another program", ErrFormat)
		}
		if v := string(meta.Get(versionKey)); v != strconv.Itoa(Version) {
			return fmt.Errorf("%w: %q, this program knows %d", ErrVersion, v, Version)
		}
		return nil
	})
}

// Get implements cloudmls.LocalStore.
func (s *Store) Get(bucket, key string) ([]byte, error) {
	s.swap.RLock()
	defer s.swap.RUnlock()
	var v []byte
	err := s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(dataPrefix + bucket))
		if b == nil {
			return nil
		}
		if got := b.Get([]byte(key)); got != nil {
			v = append(make([]byte, 0, len(got)), got...) // never nil: an empty value is a value
		}
		return nil
	})
	return v, translate(err)
}

// Update implements cloudmls.LocalStore.
func (s *Store) Update(fn func(w cloudmls.Writer) error) error {
	s.swap.RLock()
	defer s.swap.RUnlock()
	return translate(s.db.Update(func(tx *bbolt.Tx) error { return fn(writer{tx}) }))
}

// ForEach implements cloudmls.LocalStore.
func (s *Store) ForEach(bucket string, fn func(key string, v []byte) error) error {
	s.swap.RLock()
	defer s.swap.RUnlock()
	return translate(s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(dataPrefix + bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			if v == nil {
				return nil // a nested bucket; we make none
			}
			return fn(string(k), v)
		})
	}))
}

// Close lets go of the file. It waits for calls under way.
func (s *Store) Close() error {
	s.swap.Lock()
	defer s.swap.Unlock()
	s.path = ""
	return s.db.Close()
}

func translate(err error) error {
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return ErrClosed
	}
	return err
}

type writer struct{ tx *bbolt.Tx }

// Put implements cloudmls.Writer. bbolt keeps the value until the transaction
// ends, callers may reuse theirs at once: hence the copy.
func (w writer) Put(bucket, key string, v []byte) error {
	b, err := w.tx.CreateBucketIfNotExists([]byte(dataPrefix + bucket))
	if err != nil {
		return fmt.Errorf("local store: %w", err)
	}
	if err := b.Put([]byte(key), append([]byte{}, v...)); err != nil {
		return fmt.Errorf("local store: %w", err)
	}
	return nil
}

// Delete implements cloudmls.Writer.
func (w writer) Delete(bucket, key string) error {
	b := w.tx.Bucket([]byte(dataPrefix + bucket))
	if b == nil {
		return nil
	}
	if err := b.Delete([]byte(key)); err != nil {
		return fmt.Errorf("local store: %w", err)
	}
	return nil
}
