package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// everything writes something of each sort.
func everything(w keyserver.Writer) error {
	u, a := userID(1), account("a")
	return errors.Join(w.PutMark([]byte("m")), w.PutUser(user(1, "u")), w.PutSession(session(1, u, 0)), w.PutAccount(accountOf(a, u)),
		w.PutChallenge(&keyserver.Challenge{ID: keyserver.ChallengeID{1}, Expires: start}), w.AddKeyPackage(a, keyPackage(1, start)),
		w.PutLastResort(a, keyPackage(2, start)), w.PutObject(u, object(objectID(1), 1, "o")), w.PutNote(note(1, "", "", "", start)),
		w.PutTxResult(u, hash(1), &keyapi.TxResult{Applied: true}, start), deliver(w, u, "m", a, account("b")),
		w.PutConversation(&keyserver.Conversation{Kind: keyapi.KindGroup, Group: []byte("g")}))
}

func failedUpdate(s *suite) {
	err := s.s.Update(s.Context(), func(w keyserver.Writer) error {
		return errors.Join(everything(w), w.Foresee(&keyserver.Plan{User: userID(1)}), errStop)
	})
	if !errors.Is(err, errStop) {
		s.Fatal(err)
	}
	if n := s.h.Census(s.T, s.s); len(n) != 0 {
		s.Errorf("left behind: %v", n)
	}
	s.update(everything)
	before := s.h.Census(s.T, s.s)
	err = s.s.Update(s.Context(), func(w keyserver.Writer) error {
		return errors.Join(w.PutMark([]byte("x")), w.DeleteUser(userID(1)), w.DeleteAccount(account("a")), w.DeleteSession(keyserver.SessionID{1}),
			w.DeleteNote(1, nil, nil), w.DeleteChallenge(keyserver.ChallengeID{1}), w.Expire(start.AddDate(1, 0, 0), 10), w.Acknowledge(account("b"), 1), errStop)
	})
	if !errors.Is(err, errStop) {
		s.Fatal(err)
	}
	if err := want("after taking it back", s.h.Census(s.T, s.s), before); err != nil {
		s.Error(err)
	}
	s.view(func(r keyserver.Reader) error {
		return errors.Join(is("mark", []byte("m"))(r.Mark()), reads(r, account("b"), 0, "m"))
	})
}

// failedAmongOthers: however transactions are put together, one that fails
// costs the others nothing and sees nothing of what it should not.
func failedAmongOthers(s *suite) {
	const workers, rounds = 16, 12
	u := userID(1)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for n := range rounds {
				fail := (i+n)%3 == 0
				err := s.s.Update(s.Context(), func(w keyserver.Writer) error {
					v, err := w.ObjectVersion(u, objectID(1))
					if err != nil {
						return err
					}
					next := object(objectID(1), 1, fmt.Sprint(i, n))
					if v != nil {
						next.Counter = v.Counter + 1
					}
					if err := errors.Join(w.PutObject(u, next), w.PutObject(u, object(objectID(byte(2+i)), uint64(n)+1, "own")), deliver(w, u, "x", account("a"))); err != nil {
						return err
					}
					if fail {
						return errStop
					}
					return nil
				})
				if fail != errors.Is(err, errStop) || !fail && err != nil {
					s.Errorf("worker %d round %d: %v", i, n, err)
				}
			}
		})
	}
	wg.Wait()
	done := 0
	for i := range workers {
		for n := range rounds {
			if (i+n)%3 != 0 {
				done++
			}
		}
	}
	s.view(func(r keyserver.Reader) error {
		v, err := r.ObjectVersion(u, objectID(1))
		if err != nil || v == nil {
			return fmt.Errorf("object: %v, %w", v, err)
		}
		return errors.Join(want("counter", v.Counter, done), is("deliveries", uint64(done))(r.LastSeq(account("a"))),
			is("usage", keyserver.InboxUsage{Messages: done, MessagesFrom: done, Bytes: int64(done), BytesFrom: int64(done)})(r.InboxUsage(account("a"), u)))
	})
}

func panicLeavesNothing(s *suite) {
	func() {
		defer func() {
			if v := recover(); v != "boom" {
				s.Errorf("recovered %v", v)
			}
		}()
		err := s.s.Update(s.Context(), func(w keyserver.Writer) error {
			if err := everything(w); err != nil {
				return err
			}
			panic("boom")
		})
		s.Errorf("no panic: %v", err)
	}()
	if n := s.h.Census(s.T, s.s); len(n) != 0 {
		s.Errorf("left behind: %v", n)
	}
	s.update(everything) // the store goes on
}

func cancelled(s *suite) {
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	err := s.s.Update(ctx, func(w keyserver.Writer) error { return everything(w) })
	if !errors.Is(err, context.Canceled) {
		s.Errorf("update: %v", err)
	}
	err = s.s.View(ctx, func(r keyserver.Reader) error { _, err := r.Mark(); return err })
	if !errors.Is(err, context.Canceled) {
		s.Errorf("view: %v", err)
	}
	if n := s.h.Census(s.T, s.s); len(n) != 0 {
		s.Errorf("left behind: %v", n)
	}
}

func ownWrites(s *suite) {
	u, a := userID(1), account("a")
	s.update(func(w keyserver.Writer) error {
		if err := everything(w); err != nil {
			return err
		}
		return errors.Join(found("user", *user(1, "u"))(w.UserByName("u")), found("session", *session(1, u, 0))(w.SessionByToken(session(1, u, 0).Token)),
			is("sessions", []keyserver.Session{*session(1, u, 0)})(w.Sessions(u)), is("accounts", []keyserver.Account{*accountOf(a, u)})(w.Accounts(u)),
			is("pool", keyapi.KeyPackageCount{Available: 1, LastResort: true})(w.KeyPackageCount(a, start)), reads(w, a, 0, "m"),
			is("usage", keyserver.Usage{Objects: 1, Bytes: 1})(w.Usage(u)), is("group", true)(w.GroupUsed([]byte("g"))),
			is("list", []keyapi.ObjectVersion{version(object(objectID(1), 1, "o"))})(w.ObjectVersions(u)))
	})
	s.update(func(w keyserver.Writer) error {
		return errors.Join(w.Acknowledge(a, 1), reads(w, a, 0), w.DeleteObject(u, objectID(1)), is("list", []keyapi.ObjectVersion{})(w.ObjectVersions(u)),
			w.DeleteSession(keyserver.SessionID{1}), is("sessions", []keyserver.Session(nil))(w.Sessions(u)))
	})
}

// snapshot: a view does not see what is committed while it runs.
func snapshot(s *suite) {
	u := userID(1)
	s.update(func(w keyserver.Writer) error {
		return errors.Join(w.PutObject(u, object(objectID(1), 1, "1")), w.PutObject(u, object(objectID(2), 1, "1")))
	})
	s.view(func(r keyserver.Reader) error {
		if err := found("first", *object(objectID(1), 1, "1"))(r.Object(u, objectID(1))); err != nil {
			return err
		}
		written := make(chan error)
		go func() {
			written <- s.s.Update(s.Context(), func(w keyserver.Writer) error {
				return errors.Join(w.PutObject(u, object(objectID(1), 2, "2")), w.PutObject(u, object(objectID(2), 2, "2")))
			})
		}()
		if err := <-written; err != nil {
			return err
		}
		return errors.Join(found("second", *object(objectID(2), 1, "1"))(r.Object(u, objectID(2))),
			found("version", version(object(objectID(2), 1, "1")))(r.ObjectVersion(u, objectID(2))))
	})
}

// foresee: a Plan changes no answer, be it right, wrong or late.
func foresee(s *suite) {
	u, a := userID(1), account("a")
	s.update(everything)
	plan := &keyserver.Plan{
		User: u, Session: keyserver.SessionID{1}, Body: hash(1), Objects: []keyapi.ObjectID{objectID(1), objectID(2), objectID(1)}, Kind: keyapi.KindGroup, Group: []byte("g"),
		Accounts: []keyapi.Account{account("b"), a, account("nobody"), a},
	}
	check := func(r keyserver.Reader) error {
		return errors.Join(r.Foresee(plan), found("session", *session(1, u, 0))(r.Session(keyserver.SessionID{1})), found("object", version(object(objectID(1), 1, "o")))(r.ObjectVersion(u, objectID(1))),
			absent[keyapi.ObjectVersion]("object")(r.ObjectVersion(u, objectID(2))), found("account", *accountOf(a, u))(r.Account(a)),
			absent[keyserver.Account]("account")(r.Account(account("nobody"))), is("last", uint64(1))(r.LastSeq(a)),
			found("result", keyapi.TxResult{Applied: true})(r.TxResult(u, hash(1), start)), is("group", true)(r.GroupUsed([]byte("g"))),
			is("usage", keyserver.InboxUsage{Messages: 1, MessagesFrom: 1, Bytes: 1, BytesFrom: 1})(r.InboxUsage(a, u)))
	}
	s.view(check)
	s.update(func(w keyserver.Writer) error { return check(w) })
	s.update(func(w keyserver.Writer) error {
		return errors.Join(w.PutObject(u, object(objectID(1), 2, "late")), deliver(w, u, "2", a), w.PutAccount(accountOf(account("nobody"), u)), w.Foresee(plan),
			is("usage", keyserver.Usage{Objects: 1, Bytes: 4})(w.Usage(u)), is("last", uint64(2))(w.LastSeq(a)),
			found("account", *accountOf(account("nobody"), u))(w.Account(account("nobody"))),
			found("object", version(object(objectID(1), 2, "late")))(w.ObjectVersion(u, objectID(1))))
	})
	s.view(func(r keyserver.Reader) error {
		return errors.Join(is("usage", keyserver.Usage{Objects: 1, Bytes: 4})(r.Usage(u)), reads(r, a, 0, "m", "2"))
	})
	quota := func(w keyserver.Reader, value string) error {
		n, err := w.Note(keyserver.NoteQuota, u[:], nil, start)
		if err != nil || n == nil {
			return errors.Join(err, want("quota", "", value))
		}
		return want("quota", string(n.Value), value)
	}
	s.update(func(w keyserver.Writer) error {
		return errors.Join(w.Foresee(plan), quota(w, ""), w.PutNote(note(keyserver.NoteQuota, string(u[:]), "", "q", time.Time{})), quota(w, "q"), w.Foresee(plan), quota(w, "q"))
	})
	s.view(func(r keyserver.Reader) error { return errors.Join(r.Foresee(plan), quota(r, "q")) })
	foreseeSession(s, plan)
	s.update(func(w keyserver.Writer) error {
		return errors.Join(w.Foresee(plan), w.DeleteNote(keyserver.NoteQuota, u[:], nil), quota(w, ""), w.Foresee(plan), quota(w, ""))
	})
}

// foreseeSession: a session is what it is at its end, whoever foresaw it.
func foreseeSession(s *suite, plan *keyserver.Plan) {
	u, rotated := userID(1), session(1, userID(1), 1)
	s.view(func(r keyserver.Reader) error {
		wrong := keyserver.Plan{User: userID(2), Session: rotated.ID}
		return errors.Join(r.Foresee(&wrong), found("of another user", *session(1, u, 0))(r.Session(rotated.ID)),
			r.Foresee(&keyserver.Plan{User: u, Session: keyserver.SessionID{99}}), absent[keyserver.Session]("of nobody")(r.Session(keyserver.SessionID{99})))
	})
	s.update(func(w keyserver.Writer) error {
		return errors.Join(w.Foresee(plan), w.PutSession(rotated), found("changed", *rotated)(w.Session(rotated.ID)),
			w.DeleteSession(rotated.ID), absent[keyserver.Session]("ended")(w.Session(rotated.ID)),
			w.Foresee(plan), absent[keyserver.Session]("ended, foreseen")(w.Session(rotated.ID)), w.PutSession(rotated))
	})
	s.update(func(w keyserver.Writer) error {
		return errors.Join(w.Foresee(plan), found("again", *rotated)(w.Session(rotated.ID)), w.DeleteSession(rotated.ID), w.Foresee(plan),
			absent[keyserver.Session]("ended")(w.Session(rotated.ID)), absent[keyserver.Session]("its token")(w.SessionByToken(rotated.Token)))
	})
}
