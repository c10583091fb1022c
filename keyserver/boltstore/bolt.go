// Package boltstore keeps a key server's data in one bbolt file: the embedded
// store, for one server process. Every transaction is synced to disk before it
// is reported done.
package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/cloudmls/gateway/keyserver"
)

// Format is what a file of this version says in its meta bucket.
const Format = "cloudmls keyserver 1"

// lockTimeout is how long Open waits for another process to let go of the file.
const lockTimeout = 3 * time.Second

var (
	// ErrLocked: another process has the file open.
	ErrLocked = errors.New("in use by another process")
	// ErrFormat: the file is not a key server store, or of another version.
	ErrFormat = errors.New("not a key server store of this version")
)

// Store implements keyserver.Store.
type Store struct {
	db *bolt.DB
}

var _ keyserver.Store = (*Store)(nil)

// Open opens the file, making it with mode 0600 if there is none. One process
// has it open at a time; a second one gets ErrLocked after some seconds.
func Open(path string) (*Store, error) {
	return open(path, lockTimeout)
}

func open(path string, timeout time.Duration) (*Store, error) {
	_, err := os.Stat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return nil, fmt.Errorf("open key server store: %w", err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: timeout, FreelistType: bolt.FreelistMapType})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("open key server store %s: %w", path, ErrLocked)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("open key server store %s: %w: %v", path, ErrFormat, err)
	case err != nil:
		return nil, fmt.Errorf("open key server store %s: %w", path, err)
	}
	if err := db.Update(initialise); err != nil {
		return nil, fmt.Errorf("open key server store %s: %w", path, errors.Join(err, db.Close()))
	}
	if err := tighten(path); err != nil {
		return nil, fmt.Errorf("open key server store %s: %w", path, errors.Join(err, db.Close()))
	}
	if fresh {
		if err := syncDir(filepath.Dir(path)); err != nil {
			return nil, fmt.Errorf("open key server store %s: %w", path, errors.Join(err, db.Close()))
		}
	}
	return &Store{db: db}, nil
}

// tighten takes the file from everybody but its owner. That it is ours is known
// by now: the mode of a file named by mistake is left alone.
func tighten(path string) error {
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	return os.Chmod(path, 0o600)
}

// initialise checks the format of a file, or makes a new one ours.
func initialise(tx *bolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		if k, _ := tx.Cursor().First(); k != nil {
			return fmt.Errorf("%w: it has no format mark", ErrFormat)
		}
		for _, name := range buckets {
			if _, err := tx.CreateBucket([]byte(name)); err != nil {
				return fmt.Errorf("make bucket %s: %w", name, err)
			}
		}
		return tx.Bucket([]byte(bucketMeta)).Put([]byte("format"), []byte(Format))
	}
	if have := meta.Get([]byte("format")); string(have) != Format {
		return fmt.Errorf("%w: it says %q, this program reads %q", ErrFormat, have, Format)
	}
	if _, err := tx.CreateBucketIfNotExists([]byte(bucketNotes)); err != nil { // files of 0.1 have none
		return err
	}
	for _, name := range buckets {
		if tx.Bucket([]byte(name)) == nil {
			return fmt.Errorf("%w: bucket %s is missing", ErrFormat, name)
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close waits for transactions under way and lets go of the file.
func (s *Store) Close() error { return s.db.Close() }

// View runs fn on a consistent view.
func (s *Store) View(ctx context.Context, fn func(keyserver.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.View(func(btx *bolt.Tx) error { return fn(&tx{btx}) })
}

// Update runs fn in one transaction and returns after it is on disk.
func (s *Store) Update(ctx context.Context, fn func(keyserver.Writer) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.db.Update(func(btx *bolt.Tx) error { return fn(&tx{btx}) })
}

// tx implements keyserver.Writer over one bolt transaction.
type tx struct {
	*bolt.Tx
}

var _ keyserver.Writer = (*tx)(nil)

func (t *tx) bucket(name string) *bolt.Bucket { return t.Bucket([]byte(name)) }
