package outbox

import (
	"errors"
	"testing"
	"time"
)

// TestOneAtATime: a second gateway on the same folder is refused, and changes
// nothing; after the first has closed, it may.
func TestOneAtATime(t *testing.T) {
	dir := t.TempDir()
	q, _ := open(t, dir)
	if _, err := q.Hold([]Item{item("1", "held")}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(dir); !errors.Is(err, ErrLocked) {
		t.Fatalf("second Open: %v, want ErrLocked", err)
	}
	if names, err := q.list("."); err != nil || len(names) != 2 {
		t.Errorf("the refused Open left %v (%v), want the held batch and the lock", names, err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	again, _, err := Open(dir)
	if err != nil {
		t.Fatalf("Open after Close: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestUnendedAttemptIsMarked: an attempt whose end could not be noted (the disk
// was full) counts as one without an answer, also without a restart.
func TestUnendedAttemptIsMarked(t *testing.T) {
	q, _ := open(t, t.TempDir())
	add(t, q, item("1", "one"))
	e, _ := q.Next(owner)
	if err := q.Start(&e); err != nil || e.Resent {
		t.Fatalf("first attempt: %v, resent %v", err, e.Resent)
	}
	e, _ = q.Next(owner)
	if err := q.Start(&e); err != nil || !e.Resent || e.Attempts != 2 {
		t.Errorf("second attempt: %v, %+v; want it marked", err, e)
	}
}
