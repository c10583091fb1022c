package boltstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Backup writes the whole store, as it is at one moment, while it goes on
// serving. What comes out is a store's file: Restore or Open take it. Whoever
// has it has what the server has: sealed state, and hashes where there are
// secrets; not the server's own keys.
func (s *Store) Backup(ctx context.Context, w io.Writer) (n int64, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		n, err = tx.WriteTo(&cancelWriter{ctx, w})
		return err
	})
	if err != nil {
		return n, fmt.Errorf("back up key server store: %w", errors.Join(ctx.Err(), err)) // bbolt wraps no causes
	}
	return n, nil
}

type cancelWriter struct {
	ctx context.Context
	w   io.Writer
}

// Write writes unless the context has ended.
func (c *cancelWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// BackupFile writes a backup with mode 0600 and syncs it before it gets its
// name. It does not overwrite.
func (s *Store) BackupFile(ctx context.Context, path string) error {
	return newFile(path, func(f *os.File) error {
		_, err := s.Backup(ctx, f)
		return err
	})
}

// newFile makes a file appear whole and synced, or not at all; never in place of
// another one.
func newFile(path string, write func(*os.File) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(f.Name())) }()
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil { // unlike Rename it refuses to overwrite
		return err
	}
	return syncDir(filepath.Dir(path))
}

// Restore makes a store at path of a backup, which it checks first as Check
// does. It refuses to overwrite: what is at path is moved away by hand.
//
// Clients notice that the server went back in time, and say so; what was
// acknowledged after the backup is in their own caches only.
func Restore(ctx context.Context, backup, path string) error {
	fail := func(err error) error { return fmt.Errorf("restore key server store %s: %w", path, err) }
	if _, err := os.Lstat(path); err == nil {
		return fail(fmt.Errorf("%w: move it away first", fs.ErrExist))
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	if err := checkFile(ctx, backup); err != nil {
		return fail(fmt.Errorf("backup %s: %w", backup, err))
	}
	in, err := os.Open(backup)
	if err != nil {
		return fail(err)
	}
	defer in.Close()
	if err := newFile(path, func(f *os.File) error { _, err := io.Copy(f, in); return err }); err != nil {
		return fail(err)
	}
	return nil
}

// ErrDamaged: a file does not pass Check.
var ErrDamaged = errors.New("the store is damaged")

// checkFile checks a file that nobody has open for writing, without changing it.
func checkFile(ctx context.Context, path string) (err error) {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return fmt.Errorf("%w: %v", ErrFormat, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(btx *bolt.Tx) (err error) {
		if btx.Size() > info.Size() { // reading behind the end of a mapped file ends the program
			return fmt.Errorf("%w: it is cut off, %d octets of %d are there", ErrDamaged, info.Size(), btx.Size())
		}
		defer readable(&err)
		if err := checkFormat(btx); err != nil {
			return err
		}
		findings, err := check(ctx, btx)
		if err == nil && len(findings) > 0 {
			err = fmt.Errorf("%w: %d findings, the first: %s", ErrDamaged, len(findings), findings[0])
		}
		return err
	})
}

// readable turns a panic of bbolt over a page that is none, or a fault of the
// disk below a mapped file, into an error.
func readable(err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("%w: %v", ErrDamaged, v)
	}
}

// compactTx is how many octets one transaction of Compact copies.
const compactTx = 16 << 20

// Compact rewrites a store that no server has open, without the pages that are
// free, and puts it in place of the old file. Power may fail at any moment: path
// is the old file or the new one, whole.
func Compact(path string) (before, after int64, err error) {
	fail := func(err error) (int64, int64, error) {
		return 0, 0, fmt.Errorf("compact key server store %s: %w", path, err)
	}
	if _, err := os.Stat(path); err != nil {
		return fail(err)
	}
	s, err := Open(path) // nobody else has it, and its format is ours
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	temp := path + ".compact"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a run that was cut off
		return fail(err)
	}
	if err := copyCompact(temp, s.db); err != nil {
		return fail(errors.Join(err, removeIfThere(temp)))
	}
	if before, after, err = sizes(path, temp); err != nil {
		return fail(err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fail(err)
	}
	return before, after, syncDir(filepath.Dir(path))
}

func removeIfThere(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func copyCompact(to string, from *bolt.DB) error {
	dst, err := bolt.Open(to, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	if err != nil {
		return err
	}
	err = bolt.Compact(dst, from, compactTx)
	if err == nil {
		err = dst.Sync()
	}
	return errors.Join(err, dst.Close())
}

func sizes(a, b string) (int64, int64, error) {
	x, err := os.Stat(a)
	if err != nil {
		return 0, 0, err
	}
	y, err := os.Stat(b)
	if err != nil {
		return 0, 0, err
	}
	return x.Size(), y.Size(), nil
}
