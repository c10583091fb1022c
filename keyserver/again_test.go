package keyserver_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
)

// interruptedStore runs each view twice: the first time its lists come with an
// error, as where the connection to a database is lost behind them.
type interruptedStore struct{ keyserver.Store }

var errInterrupted = errors.New("interrupted")

type interruptedReader struct{ keyserver.Reader }

func (r interruptedReader) Sessions(u keyserver.UserID) ([]keyserver.Session, error) {
	all, err := r.Reader.Sessions(u)
	return all, errors.Join(err, errInterrupted)
}

func (r interruptedReader) Accounts(u keyserver.UserID) ([]keyserver.Account, error) {
	all, err := r.Reader.Accounts(u)
	return all, errors.Join(err, errInterrupted)
}

func (s *interruptedStore) View(ctx context.Context, fn func(keyserver.Reader) error) error {
	err := s.Store.View(ctx, func(r keyserver.Reader) error { return fn(interruptedReader{r}) })
	if !errors.Is(err, errInterrupted) {
		return err
	}
	return s.Store.View(ctx, fn)
}

// A list that was begun and comes again is in the answer once.
func TestListsThatComeAgainAreAnsweredOnce(t *testing.T) {
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "keyserver.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t, keyserver.Options{Store: &interruptedStore{store}})
	p := w.person("alice")
	if l, err := w.c.Sessions(t.Context(), p.token()); err != nil || len(l.Sessions) != 1 {
		t.Errorf("sessions: %+v, %v", l, err)
	}
	if l, err := w.c.Accounts(t.Context(), p.token()); err != nil || len(l.Accounts) != 1 {
		t.Errorf("accounts: %+v, %v", l, err)
	}
}
