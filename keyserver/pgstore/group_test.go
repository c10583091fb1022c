package pgstore

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// A transaction that the database refuses, and one that gives up after it wrote,
// cost those nothing that they share a transaction of the database with.
func TestBadCompany(t *testing.T) {
	stop := errors.New("stop")
	for name, bad := range map[string]func(*party) (as bool, err error){
		"refused": func(p *party) (bool, error) {
			err := p.s.Update(t.Context(), func(w keyserver.Writer) error {
				if err := p.check(w, &keyserver.Plan{}); err != nil {
					return err
				}
				w.(*tx).write(anyRows, "SELECT 1 / 0")
				return w.PutTxResult(p.user, body(), &keyapi.TxResult{}, now)
			})
			return isServerError(err, "22012"), err
		},
		"given up": func(p *party) (bool, error) {
			err := p.s.Update(t.Context(), func(w keyserver.Writer) error {
				return errors.Join(w.PutTxResult(p.user, body(), &keyapi.TxResult{}, now), p.check(w, &keyserver.Plan{}), stop)
			})
			return errors.Is(err, stop), err
		},
	} {
		t.Run(name, func(t *testing.T) { badCompany(t, bad) })
	}
}

func badCompany(t *testing.T, bad func(*party) (bool, error)) {
	s := open(t, newOptions())
	const n, rounds = 40, 5
	var wg sync.WaitGroup
	for i, p := range parties(t, s, n, 0) {
		wg.Go(func() {
			for range rounds {
				if i%10 == 0 {
					if as, err := bad(p); !as {
						t.Errorf("the bad one: %v", err)
					}
				} else if err := p.tx(); err != nil {
					t.Errorf("one among others: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got, want := census(t, s)["results"], n*9/10*rounds; got != want {
		t.Errorf("%d results, want %d", got, want)
	}
}

// A write that must change a certain row fails where it does not, though it goes
// out together with the COMMIT.
func TestWritesCheckThemselves(t *testing.T) {
	s := open(t, newOptions())
	p := parties(t, s, 2, 3)[0]
	if err := errors.Join(p.tx(), p.next.post()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]struct {
		behind string // the locks' back
		do     func(w keyserver.Writer) error
	}{
		"put":    {"UPDATE objects SET counter = counter + 7", func(w keyserver.Writer) error { return p.put(w) }},
		"delete": {"UPDATE objects SET counter = counter + 7", func(w keyserver.Writer) error { return w.DeleteObject(p.user, keyapi.ObjectID(p.data)) }},
		"take": {"DELETE FROM keypackages", func(w keyserver.Writer) error {
			_, _, err := w.TakeKeyPackage(p.account, now)
			return err
		}},
		"acknowledge": {"DELETE FROM inbox", func(w keyserver.Writer) error { return w.Acknowledge(p.account, 1) }},
		"drop":        {"DELETE FROM messages", func(w keyserver.Writer) error { return w.Acknowledge(p.account, 1) }},
	} {
		before := census(t, s)
		err := s.Update(t.Context(), func(w keyserver.Writer) error {
			if err := errors.Join(change.do(w), w.PutTxResult(p.user, body(), &keyapi.TxResult{}, now)); err != nil {
				return err
			}
			// As somebody who knows of no locks, before it is written.
			w.(*tx).pending = append([]write{{sql: change.behind, want: anyRows}}, w.(*tx).pending...)
			return w.(*tx).send()
		})
		if err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
		if err := fmt.Sprint(census(t, s)); err != fmt.Sprint(before) {
			t.Errorf("%s: %v is left of %v", name, err, before)
		}
	}
}

func (p *party) put(w keyserver.Writer) error {
	return w.PutObject(p.user, &keyapi.Object{ID: keyapi.ObjectID(p.data), Counter: p.counter + 1, Data: p.data})
}

// Who sends holds the record of the own account by the lock of the user: nobody
// changes it meanwhile, and that of somebody else is not taken for it.
func TestThreat26_RecordOfTheSenderIsHeld(t *testing.T) {
	s := open(t, newOptions())
	all := parties(t, s, 2, 0)
	p, other := all[0], all[1]
	var ended atomic.Bool
	changed := make(chan error, 1)
	err := s.Update(t.Context(), func(w keyserver.Writer) error {
		if err := p.check(w, &keyserver.Plan{Sender: p.account}); err != nil {
			return err
		}
		mine, err := w.Account(p.account)
		if err != nil || mine == nil || w.(*tx).holds(lockAccount(p.account)) {
			return fmt.Errorf("account: %v, %w", mine, err)
		}
		reached := make(chan struct{})
		go func() {
			var once sync.Once
			changed <- s.Update(t.Context(), func(w keyserver.Writer) error {
				if err := w.PutAccount(&keyserver.Account{Account: p.account, User: other.user}); err != nil {
					return err
				}
				once.Do(func() { close(reached) })
				if !ended.Load() {
					return errors.New("the account was changed meanwhile")
				}
				return nil
			})
		}()
		select {
		case <-reached:
		case <-time.After(300 * time.Millisecond): // as it should be
		}
		ended.Store(true)
		return nil
	})
	if err := errors.Join(err, <-changed); err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(w keyserver.Writer) error {
		if err := p.check(w, &keyserver.Plan{Sender: p.account}); err != nil {
			return err
		}
		have, err := w.Account(p.account)
		if err != nil || have.User != other.user || !w.(*tx).holds(lockAccount(p.account)) {
			return fmt.Errorf("somebody else's account: %v, %w", have, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
