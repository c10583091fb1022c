package state

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

var errLost = io.ErrUnexpectedEOF

// times gives a fault that happens n times for one operation.
func times(n int, op string, err error) func(string) error {
	return func(o string) error {
		if o == op && n > 0 {
			n--
			return err
		}
		return nil
	}
}

func txBodies(e *evilServer) (out [][]byte) {
	for _, b := range e.bodies {
		if bytes.Contains(b, []byte(`"put":`)) {
			out = append(out, b)
		}
	}
	return out
}

// In 2022 the state was posted, then the message sent; where the second failed,
// the sender was an epoch ahead for ever. Here the step is one transaction, and
// when its answer is lost the identical octets go out again.
func TestFlaw28_LostAnswerLeadsToTheSameOctets(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(e *evilServer){
		"never arrived":    func(e *evilServer) { e.fail = times(2, "tx", errLost) },
		"answer lost":      func(e *evilServer) { e.lose = times(2, "tx", errLost) },
		"500":              func(e *evilServer) { e.fail = times(2, "tx", problem(500, keyapi.CodeInternal)) },
		"500 after effect": func(e *evilServer) { e.lose = times(2, "tx", problem(500, keyapi.CodeInternal)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			s := f.device(t, 0)
			put(t, s, conv, "1")
			before := s.now.Load().view.counter
			f.server.bodies = nil
			fault(f.server)
			runs := 0
			err := s.Update(t.Context(), func(tx *Tx) error {
				runs++
				old, err := tx.Get(conv)
				if err != nil {
					return err
				}
				_ = tx.SetCommit(keyapi.CommitSubmission{Epoch: 1})
				return tx.Put(conv, append(old, '2'))
			})
			if err != nil || runs != 1 {
				t.Fatalf("%d runs, %v", runs, err)
			}
			sent := txBodies(f.server)
			for _, b := range sent {
				if !bytes.Equal(b, sent[0]) {
					t.Error("other octets were sent")
				}
			}
			if got := s.now.Load().view.counter; got != before+1 {
				t.Errorf("%d heads were written", got-before)
			}
			b := f.device(t, 1)
			refresh(t, b)
			if got := get(t, b, conv); got != "12" {
				t.Errorf("got %q", got)
			}
		})
	}
}

// The server forgets that it carried the step out, and another device has
// written since: the step is found in the head's history, not done twice.
func TestFlaw28_ForgottenAnswerIsFoundInTheHistory(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	put(t, a, conv, "1")
	n := 0
	f.server.lose = func(op string) error {
		if op != "tx" || n > 0 {
			return nil
		}
		n++
		clear(f.server.done)
		refresh(t, b)
		put(t, b, group, "b's")
		return errLost
	}
	runs := 0
	err := a.Update(t.Context(), func(tx *Tx) error {
		runs++
		old, err := tx.Get(conv)
		if err != nil {
			return err
		}
		return tx.Put(conv, append(old, '2'))
	})
	if err != nil || runs != 1 {
		t.Fatalf("%d runs, %v", runs, err)
	}
	if got := get(t, a, conv) + get(t, a, group); got != "12b's" {
		t.Errorf("got %q", got)
	}
}

// All answers are lost, but the server can still be asked for what it has.
func TestFlaw28_LostForGoodIsLookedUp(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	put(t, s, conv, "1")
	f.server.lose = times(1000, "tx", errLost)
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.Put(conv, []byte("2")) }); err != nil {
		t.Errorf("carried out, but: %v", err)
	}
	if got := get(t, s, conv); got != "2" {
		t.Errorf("got %q", got)
	}
}

// Where the answer stays lost the caller is told so, and the next Update finds
// out what happened.
func TestFlaw28_UnknownOutcomeIsReported(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	put(t, s, conv, "1")
	f.server.lose = times(1000, "tx", errLost)
	f.server.fail = times(1000, "objects", errLost)
	err := s.Update(t.Context(), func(tx *Tx) error { return tx.Put(conv, []byte("2")) })
	if !errors.Is(err, errLost) {
		t.Fatalf("got %v", err)
	}
	f.server.lose, f.server.fail = nil, nil
	err = s.Update(t.Context(), func(tx *Tx) error {
		old, err := tx.Get(conv)
		if err != nil {
			return err
		}
		return tx.Put(conv, append(old, '3'))
	})
	if got := get(t, s, conv); err != nil || got != "23" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCancelledUpdateEnds(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	s := f.device(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	f.server.fail = func(op string) error {
		if op == "tx" {
			cancel()
			return ctx.Err()
		}
		return nil
	}
	before := f.server.count("tx")
	if err := s.Update(ctx, func(tx *Tx) error { return tx.Put(conv, nil) }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if f.server.count("tx") != before {
		t.Error("went on after the end")
	}
}

// 2022's server let any post with counter 1 overwrite what it had. Two devices
// that both believe they create an object do not overwrite each other.
func TestFlaw24_CreationNeverOverwrites(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a, b := f.device(t, 0), f.device(t, 1)
	for _, k := range []Key{conv, sending} {
		add := func(s *Store, x string) {
			t.Helper()
			var err error
			if k.Type == TypeSender {
				err = s.Swap(t.Context(), k, func(old []byte) ([]byte, error) { return append(old, x...), nil })
			} else {
				err = s.Update(t.Context(), func(tx *Tx) error {
					old, err := tx.Get(k)
					if err != nil && !errors.Is(err, ErrNotFound) {
						return err
					}
					return tx.Put(k, append(old, x...))
				})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		add(a, "a")
		add(b, "b") // has not seen a's
		refresh(t, a)
		if got := get(t, a, k); got != "ab" {
			t.Errorf("type %d: got %q", k.Type, got)
		}
	}
}

// faultyStore fails to write from some point on.
type faultyStore struct {
	LocalStore
	fail error
}

func (f *faultyStore) Update(fn func(w Writer) error) error {
	if f.fail != nil {
		return f.fail
	}
	return f.LocalStore.Update(fn)
}

// What cannot be noted on this device must not be relied on: a full disk fails
// the reservation, and the next start does not take the older state for good.
func TestThreat22_FloorIsDurableBeforeItIsUsed(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	c := f.config(0)
	disk := &faultyStore{LocalStore: f.local[0]}
	c.Local = disk
	s, err := Resume(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	next := func(old []byte) ([]byte, error) { return append(old, '.'), nil }
	if err := s.Swap(t.Context(), sending, next); err != nil {
		t.Fatal(err)
	}
	full := errors.New("disk full")
	disk.fail = full
	if err := s.Swap(t.Context(), sending, next); !errors.Is(err, full) {
		t.Errorf("swap: %v", err)
	}
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.Put(conv, []byte("x")) }); !errors.Is(err, full) {
		t.Errorf("update: %v", err)
	}
	if _, err := s.Get(t.Context(), conv); err == nil {
		t.Error("an update that was not noted is visible")
	}
	disk.fail = nil
	refresh(t, s)
	if got := get(t, s, conv); got != "x" {
		t.Errorf("got %q", got)
	}
	if err := s.Swap(t.Context(), sending, next); err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, sending); got != "..." {
		t.Errorf("got %q", got)
	}
}
