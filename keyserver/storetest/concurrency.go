package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Workers of the tests below, each with a number of transactions.
const workers, rounds = 12, 15

var errTaken = errors.New("taken")

// race runs fn from all workers at once; it may answer errTaken.
func (s *suite) race(fn func(worker, round int, w keyserver.Writer) error) (done int) {
	s.Helper()
	var n atomic.Int64
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for round := range rounds {
				err := s.s.Update(s.Context(), func(w keyserver.Writer) error { return fn(i, round, w) })
				switch {
				case err == nil:
					n.Add(1)
				case !errors.Is(err, errTaken):
					s.Errorf("worker %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	return int(n.Load())
}

// noLostUpdate: reading a counter and writing the next one loses nothing, with a
// Plan or without.
func noLostUpdate(s *suite) {
	u := userID(1)
	done := s.race(func(worker, _ int, w keyserver.Writer) error {
		if worker%2 == 0 {
			if err := w.Foresee(&keyserver.Plan{User: u, Objects: []keyapi.ObjectID{objectID(1)}}); err != nil {
				return err
			}
		}
		v, err := w.ObjectVersion(u, objectID(1))
		if err != nil {
			return err
		}
		next := object(objectID(1), 1, "x")
		if v != nil {
			next.Counter = v.Counter + 1
		}
		return w.PutObject(u, next)
	})
	s.view(func(r keyserver.Reader) error {
		v, err := r.ObjectVersion(u, objectID(1))
		if err != nil || v == nil {
			return fmt.Errorf("version %v, %w", v, err)
		}
		return errors.Join(want("transactions", done, workers*rounds), want("counter", v.Counter, done))
	})
}

// oneCommit: of all that would open an epoch, one does.
func oneCommit(s *suite) {
	id := keyserver.ConversationID{1}
	winners := make([]atomic.Int64, rounds+1)
	done := s.race(func(worker, round int, w keyserver.Writer) error {
		c, err := w.Conversation(keyapi.KindGroup, id)
		if err != nil {
			return err
		}
		epoch := uint64(0)
		if c != nil {
			epoch = c.Epoch
		}
		if epoch != uint64(round) {
			return errTaken
		}
		return errors.Join(w.PutConversation(&keyserver.Conversation{ID: id, Kind: keyapi.KindGroup, Group: []byte("g"), Epoch: epoch + 1}),
			w.Deliver(&keyapi.Delivery{Epoch: epoch + 1, Type: keyapi.DeliveryCommit, Message: []byte{byte(worker)}}, userID(byte(worker)), []keyapi.Account{account("a")}))
	})
	s.view(func(r keyserver.Reader) error {
		c, err := r.Conversation(keyapi.KindGroup, id)
		if err != nil || c == nil {
			return fmt.Errorf("conversation %v, %w", c, err)
		}
		d, err := r.Deliveries(account("a"), 0, 1000, 1<<20)
		if err != nil {
			return err
		}
		for i, m := range d {
			if m.Epoch != uint64(i)+1 || m.Seq != uint64(i)+1 {
				return fmt.Errorf("message %d opens epoch %d", m.Seq, m.Epoch)
			}
			winners[m.Epoch].Add(1)
		}
		return errors.Join(want("epoch", c.Epoch, done), want("Commits delivered", len(d), done))
	})
}

func claimOnce(s *suite) {
	a := account("a")
	const pool = workers * rounds * 3 / 4
	s.update(func(w keyserver.Writer) error {
		for i := range pool {
			if err := w.AddKeyPackage(a, &keyserver.KeyPackage{Ref: hashOf(i), NotAfter: start, Data: hashOf(i)}); err != nil {
				return err
			}
		}
		return w.PutLastResort(a, keyPackage(255, start))
	})
	var taken [workers][rounds]*keyserver.KeyPackage
	var lastResort [workers][rounds]bool
	s.race(func(worker, round int, w keyserver.Writer) (err error) {
		taken[worker][round], lastResort[worker][round], err = w.TakeKeyPackage(a, start)
		if err == nil && round%5 == 4 { // given back
			err = errTaken
			taken[worker][round] = nil
		}
		return err
	})
	seen := map[string]bool{}
	last := 0
	for i := range taken {
		for n, kp := range taken[i] {
			switch {
			case kp == nil:
			case lastResort[i][n]:
				last++
			case seen[string(kp.Data)]:
				s.Errorf("%x was handed out twice", kp.Data)
			default:
				seen[string(kp.Data)] = true
			}
		}
	}
	s.view(func(r keyserver.Reader) error {
		n, err := r.KeyPackageCount(a, start)
		return errors.Join(err, want("handed out and left", len(seen)+n.Available, pool), want("last resort while there were others", last > 0 && n.Available > 0, false))
	})
}

func hashOf(i int) []byte {
	h := hash(i)
	return h[:]
}

func noGaps(s *suite) {
	all := []keyapi.Account{account("a"), account("b"), account("c")}
	s.race(func(worker, round int, w keyserver.Writer) error {
		to := []keyapi.Account{all[worker%3], all[(worker+1+round%2)%3]}
		return deliver(w, userID(byte(worker)), fmt.Sprint(worker, " ", round), to...)
	})
	s.view(func(r keyserver.Reader) error {
		total := 0
		for _, a := range all {
			d, err := r.Deliveries(a, 0, 10_000, 1<<20)
			if err != nil {
				return err
			}
			next := map[int]int{}
			for i, m := range d {
				var worker, round int
				if _, err := fmt.Sscan(string(m.Message), &worker, &round); err != nil {
					return err
				}
				if m.Seq != uint64(i)+1 || round < next[worker] {
					return fmt.Errorf("inbox %s: message %d is %d, round %d of worker %d behind %d", a.ID, i+1, m.Seq, round, worker, next[worker])
				}
				next[worker] = round
			}
			total += len(d)
		}
		return want("messages", total, 2*workers*rounds)
	})
}

func sameName(s *suite) {
	done := s.race(func(worker, round int, w keyserver.Writer) error {
		name := fmt.Sprint("name", round)
		have, err := w.UserByName(name)
		if err != nil {
			return err
		}
		if have != nil {
			return errTaken
		}
		u := user(byte(worker), name)
		u.ID[15] = byte(round)
		return w.PutUser(u)
	})
	if done != rounds {
		s.Errorf("%d registrations of %d names", done, rounds)
	}
	done = s.race(func(worker, round int, w keyserver.Writer) error {
		a := account(fmt.Sprint(round))
		have, err := w.Account(a)
		if err != nil {
			return err
		}
		if have != nil {
			return errTaken
		}
		return w.PutAccount(accountOf(a, userID(byte(worker))))
	})
	if done != rounds {
		s.Errorf("%d claims of %d accounts", done, rounds)
	}
}

// quotas: limits over many rows hold, whoever counts.
func quotas(s *suite) {
	const limit = 20
	u := userID(1)
	var wg sync.WaitGroup
	for _, count := range []func(worker, round int, w keyserver.Writer) error{
		func(worker, round int, w keyserver.Writer) error {
			use, err := w.Usage(u)
			if err != nil || use.Objects >= limit {
				return errors.Join(err, errTaken)
			}
			return w.PutObject(u, object(keyapi.ObjectID{byte(worker), byte(round)}, 1, "x"))
		},
		func(worker, round int, w keyserver.Writer) error {
			all, err := w.Sessions(u)
			if err != nil || len(all) >= limit {
				return errors.Join(err, errTaken)
			}
			x := session(byte(worker), u, 0)
			x.ID[1], x.Token[5] = byte(round), byte(round)
			return w.PutSession(x)
		},
		func(worker, round int, w keyserver.Writer) error {
			all, err := w.Accounts(u)
			if err != nil || len(all) >= limit {
				return errors.Join(err, errTaken)
			}
			return w.PutAccount(accountOf(account(fmt.Sprint(worker, "/", round)), u))
		},
		func(worker, round int, w keyserver.Writer) error {
			all, err := w.NotesOf(1, []byte("owner"), start, 1000)
			if err != nil || len(all) >= limit {
				return errors.Join(err, errTaken)
			}
			return w.PutNote(note(1, "owner", fmt.Sprint(worker, "/", round), "", start))
		},
	} {
		wg.Go(func() {
			if done := s.race(count); done != limit {
				s.Errorf("%d where %d are the limit", done, limit)
			}
		})
	}
	wg.Wait()
}

// crossing: transactions that need the same accounts in opposite orders all get
// through.
func crossing(s *suite) {
	a, b := account("a"), account("b")
	done := s.race(func(worker, _ int, w keyserver.Writer) error {
		to := []keyapi.Account{a, b}
		if worker%2 == 0 {
			to = []keyapi.Account{b, a}
		}
		if err := w.Foresee(&keyserver.Plan{User: userID(byte(worker)), Accounts: to}); err != nil {
			return err
		}
		for _, x := range to {
			if _, err := w.InboxUsage(x, userID(byte(worker))); err != nil {
				return err
			}
			if err := deliver(w, userID(byte(worker)), "m", x); err != nil {
				return err
			}
		}
		return nil
	})
	if done != workers*rounds {
		s.Errorf("%d of %d", done, workers*rounds)
	}
}

func reopened(s *suite) {
	s.update(everything)
	before := s.h.Census(s.T, s.s)
	s.s = s.h.Reopen(s.T, s.s)
	if err := want("after opening again", s.h.Census(s.T, s.s), before); err != nil {
		s.Error(err)
	}
	s.view(func(r keyserver.Reader) error {
		return errors.Join(is("mark", []byte("m"))(r.Mark()), found("user", *user(1, "u"))(r.User(userID(1))), reads(r, account("a"), 0, "m"),
			found("object", *object(objectID(1), 1, "o"))(r.Object(userID(1), objectID(1))))
	})
	s.update(func(w keyserver.Writer) error { return deliver(w, userID(1), "next", account("a")) })
	s.view(func(r keyserver.Reader) error { return reads(r, account("a"), 0, "m", "next") })
}
