package boltstore

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
)

func newStore(t *testing.T) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyserver.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, path
}

func TestFileIsPrivate(t *testing.T) {
	s, path := newStore(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if info, err = os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestSecondProcessIsTold(t *testing.T) {
	_, path := newStore(t)
	_, err := open(path, time.Millisecond)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func TestOtherFormatsAreRefused(t *testing.T) {
	dir := t.TempDir()
	rows := map[string]func(path string) error{
		"not bbolt": func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("mail ", 5000)), 0o600) },
		"next version": func(p string) error {
			return edit(p, func(tx *bolt.Tx) error {
				b, err := tx.CreateBucket([]byte(bucketMeta))
				if err != nil {
					return err
				}
				return b.Put([]byte("format"), []byte("cloudmls keyserver 3"))
			})
		},
		"another program's": func(p string) error {
			return edit(p, func(tx *bolt.Tx) error {
				_, err := tx.CreateBucket([]byte("mailboxes"))
				return err
			})
		},
		"bucket lost": func(p string) error {
			s, err := Open(p)
			if err != nil {
				return err
			}
			if err := s.Close(); err != nil {
				return err
			}
			return edit(p, func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(bucketInbox)) })
		},
	}
	for name, build := range rows {
		path := filepath.Join(dir, name)
		if err := build(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(path)
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Errorf("%s: the file was changed", name)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
}

func edit(path string, fn func(*bolt.Tx) error) error {
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	return errors.Join(db.Update(fn), db.Close())
}
