package state

import (
	"errors"
	"io"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// answers are what a server, or something in front of it, may say instead of
// giving an object.
var answers = map[string]error{
	"404":         problem(404, keyapi.CodeNotFound),
	"404 account": problem(404, keyapi.CodeNoAccount),
	"500":         problem(500, keyapi.CodeInternal),
	"403":         problem(403, keyapi.CodeForbidden),
	"no answer":   io.ErrUnexpectedEOF,
}

// In 2022 any error of the server made a conversation count as not encrypted,
// and the message went out in clear. No answer here becomes ErrNotFound.
func TestFlaw09_ErrorsAreNotAbsence(t *testing.T) {
	t.Parallel()
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			a, b := f.device(t, 0), f.device(t, 1)
			put(t, a, conv, "encrypted")
			if err := a.Swap(t.Context(), sending, func([]byte) ([]byte, error) { return []byte("1"), nil }); err != nil {
				t.Fatal(err)
			}
			refresh(t, b)
			f.server.fail = func(op string) error {
				if op == "objects" || op == "index" {
					return answer
				}
				return nil
			}
			for _, k := range []Key{conv, sending} {
				if _, err := b.Get(t.Context(), k); err == nil || errors.Is(err, ErrNotFound) {
					t.Errorf("get %d: %v", k.Type, err)
				}
				// The SDK may drop the error of a read: the transaction fails all the same.
				sent := f.server.count("tx")
				err := b.Update(t.Context(), func(tx *Tx) error {
					if _, err := tx.Get(k); err == nil || errors.Is(err, ErrNotFound) {
						t.Errorf("tx.Get %d: %v", k.Type, err)
					}
					return tx.Put(group, []byte("made anew"))
				})
				if err == nil || errors.Is(err, ErrNotFound) || f.server.count("tx") != sent {
					t.Errorf("update: %v", err)
				}
			}
			if _, err := b.List(t.Context(), TypeConversation); err == nil {
				t.Error("list gave something")
			}
			err := b.Swap(t.Context(), sending, func(old []byte) ([]byte, error) {
				t.Error("a reservation began anew")
				return nil, nil
			})
			if err == nil || errors.Is(err, ErrNotFound) {
				t.Errorf("swap: %v", err)
			}
			if _, err := b.Refresh(t.Context()); err == nil {
				t.Error("refresh succeeded")
			}
			// All of that passes: nothing was alarm.
			f.server.fail = nil
			if err := b.Err(); err != nil {
				t.Fatalf("an error became an alarm: %v", err)
			}
			if got := get(t, b, conv); got != "encrypted" {
				t.Errorf("got %q", got)
			}
			// What the verified head does not name is not there.
			if _, err := b.Get(t.Context(), group); !errors.Is(err, ErrNotFound) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A server that says "I have no such object" of one that the head names is not
// believed (seed flaw 0.2, threat 20).
func TestSeedFlaw02_MissingStateIsNotAbsence(t *testing.T) {
	t.Parallel()
	for name, ask := range map[string]func(t *testing.T, s *Store) error{
		"get":  func(t *testing.T, s *Store) error { _, err := s.Get(t.Context(), conv); return err },
		"list": func(t *testing.T, s *Store) error { _, err := s.List(t.Context(), TypeConversation); return err },
		"update": func(t *testing.T, s *Store) error {
			return s.Update(t.Context(), func(tx *Tx) error {
				_, _ = tx.Get(conv)
				return tx.Put(group, nil)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setUp(t)
			a, b := f.device(t, 0), f.device(t, 1)
			put(t, a, conv, "encrypted")
			refresh(t, b)
			f.server.inObjects = func(l *keyapi.ObjectList) {
				kept := l.Objects[:0]
				for _, o := range l.Objects {
					if o.ID == b.id(conv) {
						l.Missing = append(l.Missing, o.ID)
					} else {
						kept = append(kept, o)
					}
				}
				l.Objects = kept
			}
			alarmed(t, f, b, ask(t, b))
		})
	}
}

// An answer that leaves ids out, or brings others, is an error.
func TestFlaw09_AnswersMustFitTheQuestion(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(l *keyapi.ObjectList){
		"empty":     func(l *keyapi.ObjectList) { *l = keyapi.ObjectList{} },
		"other id":  func(l *keyapi.ObjectList) { l.Objects[0].ID[5] ^= 1 },
		"twice":     func(l *keyapi.ObjectList) { l.Objects = append(l.Objects, l.Objects[0]) },
		"both":      func(l *keyapi.ObjectList) { l.Missing = append(l.Missing, l.Objects[0].ID) },
		"more gone": func(l *keyapi.ObjectList) { l.Missing = append(l.Missing, keyapi.ObjectID{1}) },
	} {
		f := setUp(t)
		a, b := f.device(t, 0), f.device(t, 1)
		put(t, a, conv, "x")
		refresh(t, b)
		f.server.inObjects = change
		if _, err := b.Get(t.Context(), conv); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A user whose whole state the server denies gets no fresh state in its place.
func TestSeedFlaw02_DeniedStateIsNotCreatedAnew(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	f.server.setObjects(username, nil)
	sent := f.server.count("tx")
	c := f.config(0)
	c.Local = NewMemory()
	if _, err := Open(t.Context(), username, password, c); !errors.Is(err, ErrNoState) {
		t.Errorf("a new device: %v", err)
	}
	var r *RollbackError
	if _, err := Open(t.Context(), username, password, f.config(1)); !errors.As(err, &r) {
		t.Errorf("a known device: %v", err)
	}
	if f.server.count("tx") != sent {
		t.Error("something was written")
	}
}

func TestReadingWorksOffline(t *testing.T) {
	t.Parallel()
	f := setUp(t)
	a := f.device(t, 0)
	put(t, a, conv, "c")
	put(t, a, record, "r")
	f.server.fail = func(string) error { return io.ErrUnexpectedEOF }
	b := f.device(t, 0) // restarted, without network
	if got := get(t, b, conv) + get(t, b, record); got != "cr" {
		t.Errorf("got %q", got)
	}
	if ks, err := b.List(t.Context(), TypeConversation); err != nil || len(ks) != 1 {
		t.Errorf("list: %v, %v", ks, err)
	}
	if _, err := b.Get(t.Context(), group); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent object: %v", err)
	}
	// A damaged local copy is noticed, not used.
	m := f.local[0].clone()
	c := f.config(0)
	c.Local = m
	delete(m.buckets[bucketIndex], localKey(b.id(conv)))
	if _, err := Resume(t.Context(), c); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("resumed from a damaged copy: %v", err)
	}
	f.server.fail = nil
	s, err := Resume(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, s, conv); got != "c" {
		t.Errorf("after repair: %q", got)
	}
}
