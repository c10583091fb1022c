package boltstore

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// A function that fails leaves everything as it was, the entries of indexes too,
// which have no value.
func TestUndoBringsIndexesBack(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "keyserver.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	u := keyserver.UserID{1}
	session := keyserver.Session{ID: keyserver.SessionID{2}, User: u, Token: keyserver.Hash{3}}
	account := keyserver.Account{Account: keyapi.Account{Platform: "email", ID: "a@example.org"}, User: u}
	fill := func(w keyserver.Writer) error { return errors.Join(w.PutSession(&session), w.PutAccount(&account)) }
	if err := s.Update(t.Context(), fill); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	for name, change := range map[string]func(w keyserver.Writer) error{
		"again": fill,
		"deleted": func(w keyserver.Writer) error {
			return errors.Join(w.DeleteSession(session.ID), w.DeleteAccount(account.Account))
		},
		"deleted and again": func(w keyserver.Writer) error {
			return errors.Join(w.DeleteSession(session.ID), w.DeleteAccount(account.Account), fill(w))
		},
	} {
		before := fmt.Sprint(s.census(t))
		newJob := func(fn func(w keyserver.Writer) error) *job {
			return &job{ctx: t.Context(), fn: fn, done: make(chan struct{})}
		}
		failed := newJob(func(w keyserver.Writer) error { return errors.Join(change(w), stop) })
		other := newJob(func(w keyserver.Writer) error { return w.PutMark([]byte(name)) }) // or nothing would be written at all
		if left := s.runBatch([]*job{failed, other}); len(left) > 0 || !errors.Is(failed.err, stop) || other.err != nil {
			t.Fatalf("%v, %v", failed.err, other.err)
		}
		err := s.View(t.Context(), func(r keyserver.Reader) error {
			sessions, err := r.Sessions(u)
			accounts, err2 := r.Accounts(u)
			if len(sessions) != 1 || len(accounts) != 1 {
				t.Errorf("%s, before %s: %d sessions and %d accounts are left", name, before, len(sessions), len(accounts))
			}
			return errors.Join(err, err2)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if list := findings(t, s); len(list) > 0 {
		t.Errorf("%q", list)
	}
}
