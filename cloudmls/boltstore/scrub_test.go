package boltstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/cloudmls/boltstore"
)

var _ cloudmls.Scrubber = (*boltstore.Store)(nil)

// TestThreat43_ScrubLeavesNothing: what was deleted or replaced is not to be
// found in the file, everything else is, and the file is still ours alone.
func TestThreat43_ScrubLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "device.db")
	s := open(t, path)
	secret := bytes.Repeat([]byte("deleted archive record "), 200)
	for n := range 50 {
		put(t, s, "objects", fmt.Sprint(n), append(secret, byte(n)))
		put(t, s, "kept", fmt.Sprint(n), fmt.Appendf(nil, "kept %d", n))
	}
	for n := range 50 {
		err := s.Update(func(w cloudmls.Writer) error {
			if n%2 == 0 {
				return w.Delete("objects", fmt.Sprint(n))
			}
			return w.Put("objects", fmt.Sprint(n), []byte("replaced"))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if raw, err := os.ReadFile(path); err != nil || !bytes.Contains(raw, secret) {
		t.Fatalf("there is nothing to scrub: %v", err)
	}
	if err := os.WriteFile(path+".new", []byte("of a run that was cut off"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Scrub(); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("files %v, %v", entries, err)
	}
	raw, err := os.ReadFile(path)
	if err != nil || bytes.Contains(raw, []byte("deleted archive record")) {
		t.Errorf("a deleted value is in the file, %v", err)
	}
	if _, err := boltstore.Open(path); !errors.Is(err, boltstore.ErrLocked) {
		t.Errorf("another process could open the file: %v", err)
	}
	put(t, s, "kept", "after", []byte("written afterwards"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Scrub(); !errors.Is(err, boltstore.ErrClosed) {
		t.Errorf("scrub of a closed store: %v", err)
	}
	s = open(t, path)
	for n := range 50 {
		if v, err := s.Get("kept", fmt.Sprint(n)); err != nil || string(v) != fmt.Sprintf("kept %d", n) {
			t.Fatalf("got %q, %v", v, err)
		}
	}
	if v, _ := s.Get("kept", "after"); string(v) != "written afterwards" {
		t.Errorf("got %q", v)
	}
	if v, _ := s.Get("objects", "1"); string(v) != "replaced" {
		t.Errorf("got %q", v)
	}
}
