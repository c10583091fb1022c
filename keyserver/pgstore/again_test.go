package pgstore

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestAccountChangesHandsInOneTransaction: an account that is deleted and put
// again for another user in the same transaction has nothing of before.
func TestAccountChangesHandsInOneTransaction(t *testing.T) {
	s := open(t, newOptions())
	fill(t, s)
	next := keyserver.UserID{4, 5, 6}
	err := s.Update(t.Context(), func(w keyserver.Writer) error {
		before, err := w.Account(damaged)
		if err != nil || before == nil || before.User != damagedUser {
			return fmt.Errorf("before: %+v, %w", before, err)
		}
		if err := w.DeleteAccount(damaged); err != nil {
			return err
		}
		gone, err := w.Account(damaged)
		if err != nil || gone != nil {
			return fmt.Errorf("deleted: %+v, %w", gone, err)
		}
		return w.PutAccount(&keyserver.Account{Account: damaged, User: next, IdentityKey: []byte("key")})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := deliver(s, damaged); err != nil {
		t.Fatal(err)
	}
	err = s.View(t.Context(), func(r keyserver.Reader) error {
		now, err := r.Account(damaged)
		if err != nil || now == nil || now.User != next {
			t.Errorf("after: %+v, %v", now, err)
		}
		for u, want := range map[keyserver.UserID]int{damagedUser: 0, next: 1} {
			if all, err := r.Accounts(u); err != nil || len(all) != want {
				t.Errorf("%s has %d accounts, %v", u, len(all), err)
			}
		}
		waiting, err2 := r.Deliveries(damaged, 0, 10, 1<<20)
		if len(waiting) != 1 || waiting[0].Seq != 1 || waiting[0].Type != keyapi.DeliveryCommit || string(waiting[0].Message) != "m" {
			t.Errorf("the inbox holds %+v", waiting)
		}
		return errors.Join(err, err2)
	})
	if err != nil {
		t.Fatal(err)
	}
	if list, err := s.Check(t.Context()); err != nil || len(list) > 0 {
		t.Errorf("check: %q, %v", list, err)
	}
}
