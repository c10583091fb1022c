package state

import (
	"errors"
	"fmt"
	"testing"
)

// countingLocal counts the writes that are made durable, and fails them on demand.
type countingLocal struct {
	LocalStore
	updates int
	err     error
}

func (c *countingLocal) Update(fn func(w Writer) error) error {
	if c.err != nil {
		return c.err
	}
	c.updates++
	return c.LocalStore.Update(fn)
}

func counted(t *testing.T) (*fixture, *Store, *countingLocal) {
	t.Helper()
	f := setUp(t)
	local := &countingLocal{LocalStore: f.local[0]}
	cfg := f.config(0)
	cfg.Local = local
	s, err := Resume(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	local.updates = 0
	return f, s, local
}

func wantCached(t *testing.T, s *Store, key, want string) {
	t.Helper()
	if v, err := s.Cache("n").Get(key); err != nil || string(v) != want {
		t.Errorf("%s: got %q, %v, want %q", key, v, err, want)
	}
}

// TestDeferredRecordsCostOneWrite: readers see them at once, the disk at Flush.
func TestDeferredRecordsCostOneWrite(t *testing.T) {
	t.Parallel()
	f, s, local := counted(t)
	c := s.Cache("n")
	for i := range 100 {
		if err := c.Defer(fmt.Sprint(i), []byte("first")); err != nil {
			t.Fatal(err)
		}
	}
	wantCached(t, s, "7", "first")
	if local.updates != 0 {
		t.Errorf("%d writes before Flush", local.updates)
	}
	wantCached(t, f.device(t, 0), "7", "") // what a crash would leave
	for range 2 {
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if local.updates != 1 {
		t.Errorf("%d writes for 100 records", local.updates)
	}
	wantCached(t, f.device(t, 0), "7", "first")
	wantCached(t, s, "7", "first")

	// Put takes them along, and is not undone by an older value that waited.
	if err := errors.Join(c.Defer("a", []byte("a1")), c.Defer("b", []byte("b1")), c.Put("a", []byte("a2"))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Defer("c", []byte("c1")), c.Delete("c"), s.Flush()); err != nil {
		t.Fatal(err)
	}
	for _, reader := range []*Store{s, f.device(t, 0)} {
		wantCached(t, reader, "a", "a2")
		wantCached(t, reader, "b", "b1")
		wantCached(t, reader, "c", "")
	}
	if err := c.Defer("d", []byte("d1")); err != nil {
		t.Fatal(err)
	}
	found := false
	if err := c.ForEach(func(k string, _ []byte) error { found = found || k == "d"; return nil }); err != nil || !found {
		t.Errorf("ForEach passes over what is deferred (%v)", err)
	}
}

// TestDeferredRecordsOutliveAFailure: a full disk loses none, and a Put that
// failed changed nothing.
func TestDeferredRecordsOutliveAFailure(t *testing.T) {
	t.Parallel()
	f, s, local := counted(t)
	c := s.Cache("n")
	if err := errors.Join(c.Put("a", []byte("a1")), c.Defer("b", []byte("b1"))); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	local.err = full
	if err := s.Flush(); !errors.Is(err, full) {
		t.Errorf("flush: %v", err)
	}
	if err := c.Put("a", []byte("a2")); !errors.Is(err, full) {
		t.Errorf("put: %v", err)
	}
	local.err = nil
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	reader := f.device(t, 0)
	wantCached(t, reader, "a", "a1")
	wantCached(t, reader, "b", "b1")
}

// TestDeferredRecordsAreBounded: a caller that never flushes fills no memory.
func TestDeferredRecordsAreBounded(t *testing.T) {
	t.Parallel()
	_, s, local := counted(t)
	for i := range 2*maxDeferred + 2 {
		if err := s.Cache("n").Defer(fmt.Sprint(i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if local.updates != 2 || len(s.deferred.all()) > maxDeferred {
		t.Errorf("%d writes, %d wait", local.updates, len(s.deferred.all()))
	}
}

// TestDeferredRecordsEndWithTheStore: after a sign-out nothing is written.
func TestDeferredRecordsEndWithTheStore(t *testing.T) {
	t.Parallel()
	f, s, _ := counted(t)
	c := s.Cache("n")
	if err := c.Defer("a", []byte("a1")); err != nil {
		t.Fatal(err)
	}
	if err := s.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := len(f.local[0].buckets[c.bucket])
	if err := s.Flush(); err == nil {
		t.Error("a store that was signed out still writes")
	}
	if got := len(f.local[0].buckets[c.bucket]); got != before || got != 0 {
		t.Errorf("%d records are left", got)
	}
}
