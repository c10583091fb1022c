package boltstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/cloudmls/boltstore"
)

func open(t *testing.T, path string) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(path)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *boltstore.Store, bucket, key string, v []byte) {
	t.Helper()
	if err := s.Update(func(w cloudmls.Writer) error { return w.Put(bucket, key, v) }); err != nil {
		t.Fatalf("put: %v", err)
	}
}

func TestValuesSurviveReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device.db")
	s := open(t, path)
	put(t, s, "a", "k", []byte{0, 255, 1})
	put(t, s, "a", "empty", nil)
	put(t, s, "b", "k", []byte("other"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	if v, err := s.Get("a", "k"); err != nil || !bytes.Equal(v, []byte{0, 255, 1}) {
		t.Fatalf("got %v, %v", v, err)
	}
	if v, err := s.Get("a", "empty"); err != nil || v == nil || len(v) != 0 {
		t.Fatalf("empty value: got %v, %v; want present", v, err)
	}
	if v, err := s.Get("a", "absent"); err != nil || v != nil {
		t.Fatalf("absent: got %v, %v", v, err)
	}
	if v, err := s.Get("absent", "k"); err != nil || v != nil {
		t.Fatalf("absent bucket: got %v, %v", v, err)
	}
	n := 0
	if err := s.ForEach("a", func(string, []byte) error { n++; return nil }); err != nil || n != 2 {
		t.Fatalf("ForEach: %d values, %v; want 2", n, err)
	}
	stop := errors.New("stop")
	if err := s.ForEach("a", func(string, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Fatalf("ForEach: got %v, want the callback's error", err)
	}
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "device.db"))
	put(t, s, "a", "kept", []byte("1"))
	broken := errors.New("broken")
	err := s.Update(func(w cloudmls.Writer) error {
		if err := w.Put("a", "new", []byte("2")); err != nil {
			return err
		}
		if err := w.Delete("a", "kept"); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatalf("got %v", err)
	}
	if v, _ := s.Get("a", "new"); v != nil {
		t.Error("a failed update left a value")
	}
	if v, _ := s.Get("a", "kept"); v == nil {
		t.Error("a failed update deleted a value")
	}
	if err := s.Update(func(w cloudmls.Writer) error { return w.Delete("nowhere", "nothing") }); err != nil {
		t.Errorf("delete of nothing: %v", err)
	}
}

func TestPutDoesNotKeepTheValue(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "device.db"))
	v := []byte("right")
	err := s.Update(func(w cloudmls.Writer) error {
		if err := w.Put("a", "k", v); err != nil {
			return err
		}
		copy(v, "wrong")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := s.Get("a", "k"); string(got) != "right" {
		t.Errorf("got %q", got)
	}
}

func TestFileIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	path := filepath.Join(t.TempDir(), "device.db")
	s := open(t, path)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v; want 0600", info.Mode(), err)
	}
	s.Close()
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := boltstore.Open(path); !errors.Is(err, boltstore.ErrPermissions) {
		t.Fatalf("got %v, want ErrPermissions", err)
	}
}

func TestWrongFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, bytes.Repeat([]byte("not a database\n"), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "foreign")
	edit(t, foreign, func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err })
	future := filepath.Join(dir, "future")
	open(t, future).Close()
	edit(t, future, func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("version"), []byte("2")) })
	for _, tt := range []struct {
		name, path string
		want       error
	}{
		{"text", text, boltstore.ErrFormat},
		{"database of another program", foreign, boltstore.ErrFormat},
		{"newer layout", future, boltstore.ErrVersion},
		{"folder", dir, boltstore.ErrFormat},
	} {
		if _, err := boltstore.Open(tt.path); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

func edit(t *testing.T, path string, fn func(tx *bbolt.Tx) error) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(fn); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLockedByAnotherProcess runs this test binary a second time as the other
// process: locks of one process do not exclude each other on every system.
func TestLockedByAnotherProcess(t *testing.T) {
	if path := os.Getenv("BOLTSTORE_TEST_OPEN"); path != "" {
		_, err := boltstore.Open(path)
		fmt.Println("locked:", errors.Is(err, boltstore.ErrLocked))
		return
	}
	path := filepath.Join(t.TempDir(), "device.db")
	open(t, path)
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockedByAnotherProcess$")
	cmd.Env = append(os.Environ(), "BOLTSTORE_TEST_OPEN="+path)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("locked: true")) {
		t.Fatalf("second process: %v\n%s", err, out)
	}
}

func TestClosedStore(t *testing.T) {
	s, err := boltstore.Open(filepath.Join(t.TempDir(), "device.db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get("a", "k"); !errors.Is(err, boltstore.ErrClosed) {
		t.Errorf("Get: %v", err)
	}
	if err := s.Update(func(cloudmls.Writer) error { return nil }); !errors.Is(err, boltstore.ErrClosed) {
		t.Errorf("Update: %v", err)
	}
}
