package cloudmls

import (
	"errors"
	"testing"
)

// scrubbed is a local store that counts its records when it is cleaned.
type scrubbed struct {
	LocalStore
	times, vaults int
	err           error
}

func (s *scrubbed) Scrub() error {
	s.times++
	err := s.ForEach("vault", func(string, []byte) error {
		s.vaults++
		return nil
	})
	return errors.Join(err, s.err)
}

// TestSignOutCleansTheStore: deleted records are still in a file until it is
// written anew, and so is the vault of a device that signed out.
func TestSignOutCleansTheStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	alice := w.user("alice")
	full := errors.New("disk is full")
	for _, err := range []error{nil, full} {
		store := &scrubbed{LocalStore: NewMemoryStore(), err: err}
		c, e := Open(t.Context(), alice.username, password, w.options(store))
		if e != nil {
			t.Fatal(e)
		}
		if e := c.SignOut(t.Context()); !errors.Is(e, err) {
			t.Errorf("sign out: %v, want %v", e, err)
		}
		if store.times != 1 || store.vaults != 0 {
			t.Errorf("cleaned %d times, with %d vaults in it", store.times, store.vaults)
		}
	}
}
