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
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/cloudmls/gateway/keyserver"
)

// Format is what a file of this version says in its meta bucket. Files of
// formatJSON are read, and become ones of Format when they are opened: old
// records stay as they are until they change.
const (
	Format     = "cloudmls keyserver 2"
	formatJSON = "cloudmls keyserver 1"
)

// lockTimeout is how long Open waits for another process to let go of the file.
const lockTimeout = 3 * time.Second

// mapped is the address space that is taken at once where there is plenty: a
// mapping that has to grow makes writers wait for readers, a backup for example.
func mapped() int {
	if strconv.IntSize == 64 && runtime.GOOS != "windows" { // which would make the file as long
		return 1 << 36
	}
	return 0
}

var (
	// ErrLocked: another process has the file open.
	ErrLocked = errors.New("in use by another process")
	// ErrFormat: the file is not a key server store, or of another version.
	ErrFormat = errors.New("not a key server store of this version")
)

// Store implements keyserver.Store.
type Store struct {
	db   *bolt.DB
	path string

	mu    sync.Mutex
	queue []*job // not begun
	busy  bool   // somebody runs the queue

	quietAt atomic.Int64 // the second since 1970 in which Expire has found nothing
}

var _ keyserver.Store = (*Store)(nil)

// Open opens the file, making it with mode 0600 if there is none. One process
// has it open at a time; a second one gets ErrLocked after some seconds.
func Open(path string) (*Store, error) {
	return open(path, lockTimeout)
}

func open(path string, timeout time.Duration) (*Store, error) {
	for {
		db, err := openFile(path, timeout)
		if err != nil {
			return nil, fmt.Errorf("open key server store %s: %w", path, err)
		}
		if db != nil {
			return &Store{db: db, path: path}, nil
		}
	}
}

// openFile gives nil when the file was replaced while its lock was waited for:
// Compact does that, and the lock of the old file is worth nothing.
func openFile(path string, timeout time.Duration) (*bolt.DB, error) {
	before, err := os.Stat(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if err != nil && !fresh {
		return nil, err
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: timeout, FreelistType: bolt.FreelistMapType, InitialMmapSize: mapped()})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, ErrLocked
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	case err != nil:
		return nil, err
	}
	after, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if !fresh && !os.SameFile(before, after) {
		return nil, db.Close()
	}
	err = db.Update(initialise)
	if err == nil {
		err = tighten(path)
	}
	if err == nil && fresh {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
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
	if tx.Bucket([]byte(bucketMeta)) == nil {
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
	old := string(tx.Bucket([]byte(bucketMeta)).Get([]byte("format"))) == formatJSON
	if old {
		if _, err := tx.CreateBucketIfNotExists([]byte(bucketNotes)); err != nil { // files of 0.1 have none
			return err
		}
	}
	if err := checkFormat(tx); err != nil || !old {
		return err
	}
	return tx.Bucket([]byte(bucketMeta)).Put([]byte("format"), []byte(Format))
}

func checkFormat(tx *bolt.Tx) error {
	meta := tx.Bucket([]byte(bucketMeta))
	if meta == nil {
		return fmt.Errorf("%w: it has no format mark", ErrFormat)
	}
	if have := string(meta.Get([]byte("format"))); have != Format && have != formatJSON {
		return fmt.Errorf("%w: it says %q, this program reads %q", ErrFormat, have, Format)
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
	return s.db.View(func(btx *bolt.Tx) error { return fn(&tx{Tx: btx}) })
}

// tx implements keyserver.Writer over one bolt transaction.
type tx struct {
	*bolt.Tx
	journal *journal // nil in views
	store   *Store   // nil in views
}

var _ keyserver.Writer = (*tx)(nil)

func (t *tx) bucket(name string) *bucket {
	return &bucket{Bucket: t.Bucket([]byte(name)), journal: t.journal}
}

// Foresee is for stores that several processes share.
func (t *tx) Foresee(*keyserver.Plan) error { return nil }
