package pgstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// together has transactions that were just begun share one of the database. It
// returns when all of them have ended.
func together(t *testing.T, c *crowd, transactions ...func()) {
	t.Helper()
	idle := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.running == 0 && c.hurried == nil
	}
	for !idle() { // whoever was answered last is about to leave; a timer that runs would let somebody begin
		time.Sleep(time.Millisecond)
	}
	c.mu.Lock()
	c.running, c.hurried = atOnce, time.NewTimer(time.Hour) // nobody begins
	c.mu.Unlock()
	var wg sync.WaitGroup
	for i, run := range transactions {
		wg.Go(run)
		for waiting := 0; waiting <= i; { // in this order
			time.Sleep(time.Millisecond)
			c.mu.Lock()
			waiting = len(c.waiting)
			c.mu.Unlock()
		}
	}
	c.mu.Lock()
	c.hurried.Stop()
	c.running, c.hurried = 1, nil
	c.mu.Unlock()
	go c.lead()
	wg.Wait()
	for !idle() {
		time.Sleep(time.Millisecond)
	}
}

var errStop = errors.New("stop")

// bad asks the database for what it refuses.
func bad(r keyserver.Reader) error {
	return r.(*tx).send(read{sql: "SELECT 1 / 0", scan: func(pgx.Rows) error { return nil }})
}

// A view that was told something is not run again when the database refuses what
// another one asks. It is not blamed for it either.
func TestViewsAreNotBlamedForOthers(t *testing.T) {
	s := open(t, newOptions())
	p := parties(t, s, 2, 0)
	var mine, others error
	together(t, s.views, func() {
		mine = s.View(t.Context(), func(r keyserver.Reader) error {
			if err := p[0].check(r, &keyserver.Plan{}); err != nil {
				return err
			}
			_, err := r.Sessions(p[0].user)
			return err
		})
	}, func() {
		others = s.View(t.Context(), func(r keyserver.Reader) error {
			if err := p[1].check(r, &keyserver.Plan{}); err != nil {
				return err
			}
			return bad(r)
		})
	})
	if others == nil {
		t.Error("the database took what it should not")
	}
	if mine != nil && !errors.Is(mine, keyserver.ErrUnavailable) {
		t.Errorf("one among others: %v", mine)
	}
}

// A view that was told nothing is run again, and has its answer.
func TestViewsRunAgainWithoutTheOthers(t *testing.T) {
	s := open(t, newOptions())
	p := parties(t, s, 2, 0)
	var mine error
	var all []keyserver.Session
	runs := 0
	together(t, s.views, func() {
		mine = s.View(t.Context(), func(r keyserver.Reader) (err error) {
			runs++
			all, err = r.Sessions(p[0].user)
			return err
		})
	}, func() { _ = s.View(t.Context(), bad) })
	if mine != nil || len(all) != 1 || runs != 2 {
		t.Errorf("%d sessions after %d runs, %v", len(all), runs, mine)
	}
}

// A member that panics, one whose caller is gone, and one that gives up after it
// has written cost nobody anything; what is left of them is nothing.
func TestOthersComeThrough(t *testing.T) {
	s := open(t, newOptions())
	p := parties(t, s, 5, 0)
	ctx, cancel := context.WithCancel(t.Context())
	var errs [5]error
	var panicked any
	put := func(w keyserver.Writer, p *party) error {
		if err := p.check(w, &keyserver.Plan{}); err != nil {
			return err
		}
		return p.put(w)
	}
	do := func(i int, ctx context.Context, more func(w keyserver.Writer) error) func() {
		return func() {
			errs[i] = s.Update(ctx, func(w keyserver.Writer) error { return errors.Join(put(w, p[i]), more(w)) })
		}
	}
	nothing := func(keyserver.Writer) error { return nil }
	together(t, s.updates, do(0, t.Context(), nothing), func() {
		defer func() { panicked = recover() }()
		do(1, t.Context(), func(keyserver.Writer) error { panic("member") })()
	}, do(2, ctx, func(keyserver.Writer) error { cancel(); return nil }),
		do(3, t.Context(), func(w keyserver.Writer) error { return errors.Join(w.(*tx).send(), errStop) }),
		do(4, t.Context(), nothing))
	if panicked != "member" || !errors.Is(errs[2], keyserver.ErrUnavailable) || !errors.Is(errs[3], errStop) {
		t.Errorf("panic %v, gone %v, given up %v", panicked, errs[2], errs[3])
	}
	for _, i := range []int{0, 4} {
		if errs[i] != nil {
			t.Errorf("member %d: %v", i, errs[i])
		}
	}
	if n := census(t, s)["octets"]; n != 2 {
		t.Errorf("%d objects", n)
	}
	s.updates.mu.Lock()
	defer s.updates.mu.Unlock()
	if len(s.updates.busy) > 0 || s.updates.running > 0 {
		t.Errorf("busy: %v, running: %d", s.updates.busy, s.updates.running)
	}
}

// One whose caller goes while others spoil the transaction of the database is
// told that nothing was done, in words of this package's contract.
func TestGoneInBadCompany(t *testing.T) {
	s := open(t, newOptions())
	p := parties(t, s, 2, 0)
	ctx, cancel := context.WithCancel(t.Context())
	var mine error
	together(t, s.updates, func() {
		mine = s.Update(ctx, func(w keyserver.Writer) error {
			if err := p[0].check(w, &keyserver.Plan{}); err != nil {
				return err
			}
			if err := p[0].put(w); err != nil {
				return err
			}
			if err := w.(*tx).send(); err != nil {
				return err
			}
			cancel()
			return bad(w) // to which it does not come
		})
	}, func() {
		_ = s.Update(t.Context(), func(w keyserver.Writer) error {
			if err := p[1].check(w, &keyserver.Plan{}); err != nil {
				return err
			}
			return errors.Join(p[1].put(w), w.(*tx).send(), errStop)
		})
	})
	if !errors.Is(mine, keyserver.ErrUnavailable) || isServerError(mine, "22012") {
		t.Errorf("%v", mine)
	}
}

// Members that need, later on, what another one has: neither waits for ever, and
// each sees the other's writes or the other sees his.
func TestThreat26_NoWriteSkewInAGroup(t *testing.T) {
	s := open(t, newOptions())
	p := parties(t, s, 2, 0)
	// Each puts an object for himself unless the other has one.
	one := func(i int, err *error) func() {
		return func() {
			*err = s.Update(t.Context(), func(w keyserver.Writer) error {
				if err := p[i].check(w, &keyserver.Plan{Objects: []keyapi.ObjectID{{1}}}); err != nil {
					return err
				}
				use, err := w.Usage(p[1-i].user)
				if err != nil || use.Objects > 0 {
					return err
				}
				return p[i].put(w)
			})
		}
	}
	for range 5 {
		var errs [2]error
		together(t, s.updates, one(0, &errs[0]), one(1, &errs[1]))
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
		if n := census(t, s)["octets"]; n != 1 {
			t.Fatalf("%d objects", n)
		}
		for _, table := range []string{"objects", "usage"} {
			if _, err := s.pool.Exec(t.Context(), "DELETE FROM "+table); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A message that waits in many inboxes goes with the last of them, whether they
// are acknowledged in one transaction of the database or in several at once.
func TestLastAcknowledgementDropsTheMessage(t *testing.T) {
	o := newOptions()
	s, two := open(t, o), open(t, o)
	const n = 8
	p := parties(t, s, n, 0)
	for round := range 6 {
		var to []keyapi.Account
		for _, x := range p {
			to = append(to, x.account)
		}
		err := s.Update(t.Context(), func(w keyserver.Writer) error {
			return w.Deliver(&keyapi.Delivery{Type: keyapi.DeliveryCommit, Message: []byte("m")}, p[0].user, to)
		})
		if err != nil {
			t.Fatal(err)
		}
		var all []func()
		for i, x := range p {
			all = append(all, func() {
				at := s
				if round%2 == 1 && i%2 == 1 {
					at = two
				}
				if err := at.Update(t.Context(), func(w keyserver.Writer) error { return w.Acknowledge(x.account, ^uint64(0)) }); err != nil {
					t.Error(err)
				}
			})
		}
		if round%2 == 0 {
			together(t, s.updates, all...)
		} else {
			var wg sync.WaitGroup
			for _, f := range all {
				wg.Go(f)
			}
			wg.Wait()
		}
		if c := census(t, s); c["octets"] != 0 || c["inbox"] != 0 {
			t.Errorf("round %d: left is %v", round, fmt.Sprint(c))
		}
	}
}

// Who needs, later on, what another process has locked is not answered without
// the lock: he waits for it by himself.
func TestThreat26_LocksOfOtherProcessesCountLaterOn(t *testing.T) {
	o := newOptions()
	s, two := open(t, o), open(t, o)
	p := parties(t, s, 3, 0)
	locked, release, elsewhere := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		elsewhere <- two.Update(t.Context(), func(w keyserver.Writer) error {
			if err := p[2].check(w, &keyserver.Plan{}); err != nil {
				return err
			}
			close(locked)
			<-release
			return p[2].put(w)
		})
	}()
	<-locked
	var mine, others error
	var use keyserver.Usage
	free := sync.OnceFunc(func() { close(release) })
	runs := 0
	together(t, s.updates, func() {
		defer free()
		mine = s.Update(t.Context(), func(w keyserver.Writer) (err error) {
			if runs++; runs > 1 {
				free()
			}
			if err := p[0].check(w, &keyserver.Plan{}); err != nil {
				return err
			}
			if use, err = w.Usage(p[2].user); err != nil {
				return err
			}
			return p[0].put(w)
		})
	}, func() {
		others = s.Update(t.Context(), func(w keyserver.Writer) error { return p[1].check(w, &keyserver.Plan{}) })
	})
	if err := errors.Join(mine, others, <-elsewhere); err != nil {
		t.Fatal(err)
	}
	if use.Objects != 1 {
		t.Errorf("%d objects were seen, want that of the other process", use.Objects)
	}
}

// What a statement by itself has changed is looked at before the COMMIT.
func TestWritesAreLookedAtBeforeTheCommit(t *testing.T) {
	s := open(t, newOptions())
	p := parties(t, s, 1, 0)[0]
	err := s.Update(t.Context(), func(w keyserver.Writer) error {
		if err := p.check(w, &keyserver.Plan{}); err != nil {
			return err
		}
		w.(*tx).write(1, "DELETE FROM users WHERE id = $1", []byte("nobody"))
		return w.PutTxResult(p.user, body(), &keyapi.TxResult{}, now)
	})
	if err == nil {
		t.Error("no row was changed where one was due, and nobody is told")
	}
	if n := census(t, s)["results"]; n != 0 {
		t.Errorf("%d results of a transaction that failed", n)
	}
}
