package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func note(kind keyserver.NoteKind, owner, key, value string, end time.Time) *keyserver.Note {
	return &keyserver.Note{Kind: kind, Owner: []byte(owner), Key: []byte(key), Value: []byte(value), Expires: end}
}

func notes(s *suite) {
	end := start.Add(time.Hour)
	get := func(r keyserver.Reader, kind keyserver.NoteKind, owner, key string, now time.Time, value string) error {
		n, err := r.Note(kind, []byte(owner), []byte(key), now)
		if err != nil {
			return err
		}
		if n == nil {
			return want("note "+owner+"/"+key, "", value)
		}
		return errors.Join(want("note "+owner+"/"+key, string(n.Value), value), want("owner", string(n.Owner), owner), want("key", string(n.Key), key))
	}
	list := func(r keyserver.Reader, kind keyserver.NoteKind, owner string, now time.Time, limit int, values ...string) error {
		all, err := r.NotesOf(kind, []byte(owner), now, limit)
		var got []string
		for _, n := range all {
			got = append(got, string(n.Value))
		}
		return errors.Join(err, want("notes of "+owner, got, values))
	}
	s.both(func(w keyserver.Writer) error {
		return errors.Join(w.PutNote(note(1, "ow", "ner", "1", end)), w.PutNote(note(1, "o", "wner", "2", time.Time{})), w.PutNote(note(2, "ow", "ner", "3", end)),
			w.PutNote(note(1, "ow", "k\x00", "5", time.Time{})), w.PutNote(note(1, "ow", "k", "4", end)), w.PutNote(note(1, "", "", "", end)))
	}, func(r keyserver.Reader) error {
		late := end.Add(time.Second)
		return errors.Join(get(r, 1, "ow", "ner", start, "1"), get(r, 1, "o", "wner", late, "2"), get(r, 2, "ow", "ner", end, "3"),
			get(r, 2, "ow", "ner", end.Add(1), ""), get(r, 3, "ow", "ner", start, ""), get(r, 1, "ow", "n", start, ""),
			list(r, 1, "ow", start, 9, "4", "5", "1"), list(r, 1, "ow", start, 2, "4", "5"), list(r, 1, "ow", late, 9, "5"), list(r, 1, "x", start, 9))
	})
	s.both(func(w keyserver.Writer) error {
		return errors.Join(w.PutNote(note(1, "ow", "ner", "new", time.Time{})), w.DeleteNote(1, []byte("ow"), []byte("k")), w.DeleteNote(1, []byte("ow"), []byte("zz")))
	}, func(r keyserver.Reader) error { return list(r, 1, "ow", end.Add(time.Hour), 9, "5", "new") })
	err := s.s.Update(s.Context(), func(w keyserver.Writer) error {
		return w.PutNote(&keyserver.Note{Kind: 1, Value: make([]byte, keyserver.MaxNoteSize+1)})
	})
	if err == nil {
		s.Error("a note beyond the limit was taken")
	}
}

// expire: what has ended goes, up to a number of each kind, and nothing else.
func expire(s *suite) {
	u, a := userID(1), account("a")
	later := start.Add(time.Hour)
	s.update(func(w keyserver.Writer) error {
		var errs []error
		for i, end := range []time.Time{start, start, start, later} {
			errs = append(errs, w.PutTxResult(u, hash(i), &keyapi.TxResult{Applied: true}, end),
				w.PutChallenge(&keyserver.Challenge{ID: keyserver.ChallengeID{byte(i)}, Expires: end}),
				w.AddKeyPackage(a, keyPackage(byte(i), end)), w.PutNote(note(1, "", fmt.Sprint(i), "", end)))
		}
		errs = append(errs, w.PutNote(note(1, "", "for ever", "", time.Time{})), w.DropEndedKeyPackages(a, later.Add(time.Second)))
		return errors.Join(errs...)
	})
	expected := func(results int) {
		s.Helper()
		n := s.h.Census(s.T, s.s)
		if n["results"] != results || n["challenges"] != results || n["references"] != results || n["notes"] != results+1 {
			s.Errorf("left: %v, want %d of each", n, results)
		}
	}
	s.update(func(w keyserver.Writer) error { return w.Expire(start, 100) })
	expected(4)
	now := start.Add(time.Minute)
	for n := range 10 {
		s.update(func(w keyserver.Writer) error { return w.Expire(now, 2) })
		if left := s.h.Census(s.T, s.s); n == 0 && (left["results"] < 2 || left["challenges"] < 2) {
			s.Errorf("more at once than asked for: %v", left)
		}
	}
	expected(1)
	s.update(func(w keyserver.Writer) error { return w.Expire(later.Add(time.Minute), 100) })
	expected(0)
}

func expireRenewed(s *suite) {
	u := userID(1)
	c := keyserver.Challenge{ID: keyserver.ChallengeID{1}, Expires: start.UTC()}
	r := keyapi.TxResult{Applied: true, Epoch: 7}
	later := start.Add(time.Hour)
	s.update(func(w keyserver.Writer) error {
		return errors.Join(w.PutTxResult(u, hash(1), &r, start), w.PutTxResult(u, hash(1), &r, later), w.PutChallenge(&c),
			w.PutNote(note(1, "", "a", "x", start)), w.PutNote(note(1, "", "a", "x", later)),
			w.PutNote(note(1, "", "b", "y", start)), w.PutNote(note(1, "", "b", "y", time.Time{})))
	})
	now := start.Add(time.Minute)
	for range 5 {
		s.update(func(w keyserver.Writer) error { return w.Expire(now, 100) })
	}
	s.view(func(v keyserver.Reader) error {
		all, err := v.NotesOf(1, nil, now, 9)
		return errors.Join(err, want("notes", len(all), 2), found("result", r)(v.TxResult(u, hash(1), now)),
			absent[keyserver.Challenge]("challenge")(v.Challenge(c.ID)))
	})
}

// nothingLeft: octets go with their last use.
func nothingLeft(s *suite) {
	u, a, b := userID(1), account("a"), account("b")
	s.update(func(w keyserver.Writer) error {
		for i := range uint64(3) {
			if err := errors.Join(w.PutObject(u, object(objectID(1), i+1, fmt.Sprint(i))), deliver(w, u, fmt.Sprint("m", i), []keyapi.Account{a, b}[:1+i%2]...),
				w.PutSession(session(1, u, i))); err != nil {
				return err
			}
		}
		return errors.Join(w.PutTxResult(u, hash(1), &keyapi.TxResult{Applied: true}, start),
			w.PutChallenge(&keyserver.Challenge{ID: keyserver.ChallengeID{1}, Expires: start}))
	})
	if n := s.h.Census(s.T, s.s); n["octets"] != 4 || n["tokens"] != 3 || n["inbox"] != 4 {
		s.Errorf("while in use: %v", n)
	}
	s.update(func(w keyserver.Writer) error {
		return errors.Join(w.DeleteObject(u, objectID(1)), w.Acknowledge(a, 3), w.Acknowledge(b, 1), w.DeleteSession(keyserver.SessionID{1}),
			w.Expire(start.Add(time.Hour), 10))
	})
	n := s.h.Census(s.T, s.s)
	if len(n) != 1 || n["inbox numbers"] != 2 {
		s.Errorf("left behind: %v", n)
	}
}

func deletion(s *suite) {
	u, v, a, b := userID(1), userID(2), account("a"), account("b")
	s.update(func(w keyserver.Writer) error {
		return errors.Join(w.PutUser(user(1, "u")), w.PutUser(user(2, "v")), w.PutAccount(accountOf(a, u)), w.PutAccount(accountOf(b, v)),
			w.PutObject(u, object(objectID(1), 1, "u")), w.PutObject(v, object(objectID(1), 1, "v")),
			w.PutTxResult(u, hash(1), &keyapi.TxResult{Applied: true}, start), w.AddKeyPackage(a, keyPackage(1, start)), w.PutLastResort(a, keyPackage(2, start)),
			deliver(w, u, "to both", a, b), deliver(w, v, "to both too", b, a))
	})
	s.both(func(w keyserver.Writer) error { return errors.Join(w.DeleteAccount(a), w.DeleteUser(u)) }, func(r keyserver.Reader) error {
		return errors.Join(absent[keyserver.User]("user")(r.User(u)), absent[keyserver.User]("name")(r.UserByName("u")),
			absent[keyserver.Account]("account")(r.Account(a)), is("accounts", []keyserver.Account(nil))(r.Accounts(u)),
			absent[keyapi.Object]("object")(r.Object(u, objectID(1))), is("usage", keyserver.Usage{})(r.Usage(u)),
			absent[keyapi.TxResult]("result")(r.TxResult(u, hash(1), start)), reads(r, a, 0), is("last", uint64(0))(r.LastSeq(a)),
			is("pool", keyapi.KeyPackageCount{})(r.KeyPackageCount(a, start)), is("known", false)(r.KeyPackageKnown(a, []byte{1, 'r'})),
			found("other user", *user(2, "v"))(r.User(v)), reads(r, b, 0, "to both", "to both too"),
			found("other object", *object(objectID(1), 1, "v"))(r.Object(v, objectID(1))))
	})
	s.update(func(w keyserver.Writer) error { return errors.Join(w.DeleteAccount(a), w.DeleteUser(u)) }) // nothing there is no error
	s.both(func(w keyserver.Writer) error {
		return errors.Join(w.PutUser(user(3, "u")), w.PutAccount(accountOf(a, userID(3))), deliver(w, v, "new", a))
	}, func(r keyserver.Reader) error {
		return errors.Join(reads(r, a, 0, "new"), is("number begins again", uint64(1))(r.LastSeq(a)))
	})
}
