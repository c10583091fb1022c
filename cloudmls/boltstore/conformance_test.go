package boltstore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/cloudmls/boltstore"
)

// TestConformance holds every LocalStore of ours against what the SDK expects of
// one. crash gives the store as it is after a power cut; nil: it keeps nothing.
func TestConformance(t *testing.T) {
	type made struct {
		store cloudmls.LocalStore
		crash func(t *testing.T) cloudmls.LocalStore
	}
	for name, create := range map[string]func(t *testing.T) made{
		"memory": func(*testing.T) made { return made{store: cloudmls.NewMemoryStore()} },
		"bolt": func(t *testing.T) made {
			path := filepath.Join(t.TempDir(), "device.db")
			return made{open(t, path), func(t *testing.T) cloudmls.LocalStore {
				b, err := os.ReadFile(path) // the disk as it is, while the store is open
				if err != nil {
					t.Fatal(err)
				}
				again := filepath.Join(t.TempDir(), "device.db")
				if err := os.WriteFile(again, b, 0o600); err != nil {
					t.Fatal(err)
				}
				s, err := boltstore.Open(again)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.Close() })
				return s
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := create(t)
			s := m.store
			v := []byte("value")
			err := s.Update(func(w cloudmls.Writer) error {
				return errors.Join(w.Put("a", "k", v), w.Put("a", "empty", nil), w.Put("b", "k", []byte("other")), w.Delete("c", "absent"))
			})
			copy(v, "wrong")
			if err != nil {
				t.Fatal(err)
			}
			broken := errors.New("broken")
			err = s.Update(func(w cloudmls.Writer) error {
				return errors.Join(w.Put("a", "k", []byte("half")), w.Delete("b", "k"), broken)
			})
			if !errors.Is(err, broken) {
				t.Fatalf("failed update: %v", err)
			}
			check := func(s cloudmls.LocalStore) {
				t.Helper()
				for key, want := range map[[2]string]string{{"a", "k"}: "value", {"a", "empty"}: "", {"b", "k"}: "other"} {
					got, err := s.Get(key[0], key[1])
					if err != nil || got == nil || string(got) != want {
						t.Fatalf("%v: %q, %v", key, got, err)
					}
					for i := range got {
						got[i] = 0 // the caller's
					}
				}
				if got, err := s.Get("a", "absent"); got != nil || err != nil {
					t.Fatalf("absent: %q, %v", got, err)
				}
				n := 0
				if err := s.ForEach("a", func(string, []byte) error { n++; return nil }); n != 2 || err != nil {
					t.Fatalf("%d values, %v", n, err)
				}
				if err := s.ForEach("a", func(string, []byte) error { return broken }); !errors.Is(err, broken) {
					t.Fatalf("ForEach: %v", err)
				}
			}
			check(s)
			check(s)
			if m.crash != nil {
				check(m.crash(t)) // what Update returned for is there
			}
			done := atOnce(s)
			for range 8 {
				if err := <-done; err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Get("a", "k"); err == nil {
				t.Error("a closed store answers")
			}
			if err := s.Update(func(cloudmls.Writer) error { return nil }); err == nil {
				t.Error("a closed store is changed")
			}
		})
	}
}

// atOnce writes and reads from eight goroutines at once.
func atOnce(s cloudmls.LocalStore) <-chan error {
	done := make(chan error)
	for n := range 8 {
		go func() {
			key := fmt.Sprint(n)
			err := s.Update(func(w cloudmls.Writer) error { return w.Put("at once", key, []byte(key)) })
			if got, e := s.Get("at once", key); err == nil && (e != nil || string(got) != key) {
				err = fmt.Errorf("%q, %w", got, e)
			}
			done <- err
		}()
	}
	return done
}
