package keyserver_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// watchedStore tells when octets are about to be read.
type watchedStore struct {
	keyserver.Store
	page   func() // nil: nobody wants to know
	winner func()
}

func (s *watchedStore) View(ctx context.Context, fn func(keyserver.Reader) error) error {
	return s.Store.View(ctx, func(r keyserver.Reader) error { return fn(watchedReader{r, s}) })
}

func (s *watchedStore) Update(ctx context.Context, fn func(keyserver.Writer) error) error {
	return s.Store.Update(ctx, func(w keyserver.Writer) error { return fn(watchedWriter{w, s}) })
}

type watchedReader struct {
	keyserver.Reader
	s *watchedStore
}

func (r watchedReader) Deliveries(a keyapi.Account, after uint64, limit, size int) ([]keyapi.Delivery, error) {
	if r.s.page != nil {
		r.s.page()
	}
	return r.Reader.Deliveries(a, after, limit, size)
}

type watchedWriter struct {
	keyserver.Writer
	s *watchedStore
}

func (w watchedWriter) DeliveredCommit(a keyapi.Account, group []byte, epoch uint64) (*keyapi.Delivery, error) {
	if w.s.winner != nil {
		w.s.winner()
	}
	return w.Writer.DeliveredCommit(a, group, epoch)
}

// withCommits has alice send bob Commits of some octets each; the group is what
// they are of.
func withCommits(t *testing.T, octets, n int) (*world, *watchedStore, *person, *person, *group) {
	t.Helper()
	store := &watchedStore{Store: newStore(t)}
	w := newWorld(t, keyserver.Options{Store: store})
	alice, bob := w.person("alice"), w.person("bob")
	g := newGroup()
	for i := range n {
		c := g.commit(alice.account, strings.Repeat("x", octets), bob.account)
		c.Create = i == 0
		alice.mustCommit(g, c)
	}
	return w, store, alice, bob, g
}

// Who asks for a full inbox many times at once has it in memory as often as a user
// may have octets there, also while it is read.
func TestPagesAreCountedBeforeTheyAreRead(t *testing.T) {
	w, store, _, bob, _ := withCommits(t, 16<<20, 2)
	const readers = 12
	reading, release, done := make(chan struct{}, readers), make(chan struct{}), make(chan int, readers)
	store.page = func() { reading <- struct{}{}; <-release }
	for range readers {
		go func() {
			r := httptest.NewRequest("GET", "/v1/delivery/email/"+bob.account.ID+"?limit=2", nil)
			r.Header.Set("Authorization", "Bearer "+bob.token())
			rec := httptest.NewRecorder()
			w.Handler.ServeHTTP(rec, r)
			done <- rec.Code
		}()
	}
	refused, inside := 0, 0
	for refused+inside < readers {
		select {
		case <-reading:
			inside++
		case code := <-done:
			if code != http.StatusTooManyRequests {
				t.Errorf("refused with %d", code)
			}
			refused++
		}
	}
	if inside != 4 {
		t.Errorf("%d pages of 32 MiB are read for one user at once, want 4", inside)
	}
	close(release)
	for range inside {
		if code := <-done; code != http.StatusOK {
			t.Errorf("answered with %d", code)
		}
	}
	store.page = nil
	if held := w.Handler.HeldOctets(); held != 0 {
		t.Errorf("%d octets are counted when all is over", held)
	}
	if got := bob.inbox(1); len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
}

// A page counts as what it has once that is known, so that a full inbox is read
// in small pages by many devices at once.
func TestPagesCountAsWhatTheyHave(t *testing.T) {
	w, store, _, bob, _ := withCommits(t, 1<<20, 33)
	store.page = func() {
		if held := w.Handler.HeldOctets(); held != 32<<20 {
			t.Errorf("%d octets are counted while a page is read, which may have 32 MiB", held)
		}
	}
	r := httptest.NewRequest("GET", "/v1/delivery/email/"+bob.account.ID+"?limit=1", nil)
	r.Header.Set("Authorization", "Bearer "+bob.token())
	rec := &held{ResponseRecorder: httptest.NewRecorder(), of: w}
	w.Handler.ServeHTTP(rec, r)
	if rec.Code != http.StatusOK || rec.octets != 1<<20 {
		t.Errorf("status %d, and %d octets count while the answer of one message is written", rec.Code, rec.octets)
	}
	store.page = nil
	if got := bob.inbox(33); len(got) != 0 || w.Handler.HeldOctets() != 0 {
		t.Errorf("%d messages behind the last one, %d octets", len(got), w.Handler.HeldOctets())
	}
}

// held notes what counts while it is written to.
type held struct {
	*httptest.ResponseRecorder
	of     *world
	octets int64
}

func (h *held) Write(b []byte) (int, error) {
	h.octets = h.of.Handler.HeldOctets()
	return h.ResponseRecorder.Write(b)
}

// A Commit that has won is counted before it is read: those who come too late do
// so many at once.
func TestWinnersAreCountedBeforeTheyAreRead(t *testing.T) {
	w, store, _, bob, g := withCommits(t, 1<<20, 2)
	asked := 0
	store.winner = func() {
		asked++
		if held := w.Handler.HeldOctets(); held < keyapi.MaxObjectSize {
			t.Errorf("%d octets are counted while a Commit is read that may have 16 MiB", held)
		}
	}
	late := g.commit(bob.account, "late")
	late.Epoch = 0
	_, err := bob.tx(keyapi.Tx{Commit: late})
	wantCode(t, err, keyapi.CodeEpochConflict)
	if p, ok := err.(*keyapi.Problem); asked != 1 || !ok || p.Winner == nil || len(p.Winner.Message) != 1<<20 {
		t.Errorf("the store was asked %d times: %v", asked, fmt.Sprint(err)[:60])
	}
	if held := w.Handler.HeldOctets(); held != 0 {
		t.Errorf("%d octets are counted when it is over", held)
	}
}
