package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func mark(s *suite) {
	s.view(func(r keyserver.Reader) error { return is("mark", []byte(nil))(r.Mark()) })
	s.both(func(w keyserver.Writer) error { return w.PutMark([]byte("mark")) },
		func(r keyserver.Reader) error { return is("mark", []byte("mark"))(r.Mark()) })
}

func user(n byte, name string) *keyserver.User {
	return &keyserver.User{
		ID: userID(n), Name: name, AuthVersion: 1, KDF: keyapi.KDF{Algorithm: "argon2id", Salt: []byte{n}, Time: 3},
		KDFTag: []byte("tag"), Verifier: []byte("verifier"), Recovery: []byte{1}, Created: start.UTC(),
	}
}

func users(s *suite) {
	s.view(func(r keyserver.Reader) error {
		return errors.Join(absent[keyserver.User]("user")(r.User(userID(1))), absent[keyserver.User]("name")(r.UserByName("alice")))
	})
	s.both(func(w keyserver.Writer) error {
		return errors.Join(w.PutUser(user(1, "alice")), w.PutUser(user(2, "alic")))
	},
		func(r keyserver.Reader) error {
			return errors.Join(found("user", *user(1, "alice"))(r.User(userID(1))), found("name", *user(2, "alic"))(r.UserByName("alic")),
				absent[keyserver.User]("prefix of a name")(r.UserByName("ali")), absent[keyserver.User]("other user")(r.User(userID(3))))
		})
	changed := user(1, "alice")
	changed.Verifier, changed.Recovery = []byte("another"), nil
	s.both(func(w keyserver.Writer) error { return w.PutUser(changed) },
		func(r keyserver.Reader) error {
			return errors.Join(found("changed user", *changed)(r.User(userID(1))), found("the other", *user(2, "alic"))(r.User(userID(2))))
		})
}

func userList(s *suite) {
	names := []string{"a", "a!", "b", "zz", "~"}
	s.update(func(w keyserver.Writer) error {
		for _, i := range []int{3, 0, 4, 2, 1} {
			if err := w.PutUser(user(byte(9-i), names[i])); err != nil {
				return err
			}
		}
		return nil
	})
	s.view(func(r keyserver.Reader) error {
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page, err := r.Users(after, 2)
			if err != nil {
				return err
			}
			if len(page) == 0 {
				return want("names", got, names)
			}
			for _, u := range page {
				got = append(got, u.Name)
			}
		}
	})
}

func session(n byte, of keyserver.UserID, generation uint64) *keyserver.Session {
	return &keyserver.Session{
		ID: keyserver.SessionID{n}, User: of, Device: keyapi.Device{Name: "d", Key: []byte{n}}, Created: start.UTC(),
		Used: start.Add(time.Duration(generation) * time.Minute).UTC(), Generation: generation,
		Token: hash(int(n)*256 + int(generation)), Successor: []byte("sealed"),
	}
}

func sessions(s *suite) {
	one, two, other := session(1, userID(1), 0), session(2, userID(1), 0), session(3, userID(2), 0)
	s.view(func(r keyserver.Reader) error {
		return errors.Join(absent[keyserver.Session]("session")(r.Session(one.ID)), absent[keyserver.Session]("token")(r.SessionByToken(one.Token)))
	})
	s.both(func(w keyserver.Writer) error {
		return errors.Join(w.PutSession(two), w.PutSession(one), w.PutSession(other))
	},
		func(r keyserver.Reader) error {
			return errors.Join(found("session", *one)(r.Session(one.ID)), found("by token", *two)(r.SessionByToken(two.Token)),
				is("sessions of a user", []keyserver.Session{*one, *two})(r.Sessions(userID(1))),
				is("sessions of nobody", []keyserver.Session(nil))(r.Sessions(userID(9))))
		})
	rotated := session(1, userID(1), 1)
	rotated.Previous = one.Token
	s.both(func(w keyserver.Writer) error { return w.PutSession(rotated) },
		func(r keyserver.Reader) error {
			return errors.Join(found("old token", *rotated)(r.SessionByToken(one.Token)), found("new token", *rotated)(r.SessionByToken(rotated.Token)))
		})
	s.both(func(w keyserver.Writer) error {
		return errors.Join(w.DeleteSession(one.ID), w.DeleteSession(keyserver.SessionID{99}))
	},
		func(r keyserver.Reader) error {
			return errors.Join(absent[keyserver.Session]("ended")(r.Session(one.ID)), absent[keyserver.Session]("its old token")(r.SessionByToken(one.Token)),
				absent[keyserver.Session]("its token")(r.SessionByToken(rotated.Token)),
				is("sessions left", []keyserver.Session{*two})(r.Sessions(userID(1))))
		})
}

func oldTokens(s *suite) {
	const rotations = keyserver.MaxOldTokens + 10
	x := session(1, userID(1), 0)
	s.update(func(w keyserver.Writer) error {
		for i := range rotations {
			x.Generation, x.Token = uint64(i), hash(i)
			if err := w.PutSession(x); err != nil {
				return err
			}
		}
		return nil
	})
	s.view(func(r keyserver.Reader) error {
		recent, err := r.SessionByToken(hash(11))
		if err != nil || recent == nil {
			return fmt.Errorf("token %d rotations old: %v, %w", rotations-12, recent, err)
		}
		return absent[keyserver.Session]("oldest token")(r.SessionByToken(hash(0)))
	})
	if n := s.h.Census(s.T, s.s)["tokens"]; n > keyserver.MaxOldTokens+1 {
		s.Errorf("%d tokens are kept", n)
	}
}

func accountOf(a keyapi.Account, u keyserver.UserID) *keyserver.Account {
	return &keyserver.Account{Account: a, User: u, IdentityKey: []byte("key of " + a.ID), Created: start.UTC()}
}

func accounts(s *suite) {
	a, b := accountOf(account("a"), userID(1)), accountOf(account("b/c"), userID(1))
	s.view(func(r keyserver.Reader) error { return absent[keyserver.Account]("account")(r.Account(a.Account)) })
	s.both(func(w keyserver.Writer) error { return errors.Join(w.PutAccount(b), w.PutAccount(a)) },
		func(r keyserver.Reader) error {
			return errors.Join(found("account", *a)(r.Account(a.Account)), absent[keyserver.Account]("half an id")(r.Account(account("b"))),
				is("accounts of a user", []keyserver.Account{*a, *b})(r.Accounts(userID(1))),
				is("accounts of nobody", []keyserver.Account(nil))(r.Accounts(userID(2))))
		})
	proven := *a
	proven.ProofLevel = 1
	s.both(func(w keyserver.Writer) error { return w.PutAccount(&proven) },
		func(r keyserver.Reader) error { return found("proven", proven)(r.Account(a.Account)) })
}

// flaw31: ids are compared with their platform, octet by octet.
func flaw31(s *suite) {
	all := []keyapi.Account{
		{Platform: "p", ID: "ab"}, {Platform: "pa", ID: "b"}, {Platform: "p", ID: "a"}, {Platform: "p", ID: "a/b"}, {Platform: "p/a", ID: "b"},
		{Platform: "p", ID: "A"}, {Platform: "q", ID: "a"}, {Platform: "p", ID: "a\x00\x00\x00\x00\x00\x00\x00\x01"},
		{Platform: "p", ID: "é"}, {Platform: "p", ID: "e\u0301"}, {Platform: "p", ID: string(make([]byte, 1024))},
	}
	s.update(func(w keyserver.Writer) error {
		for i, a := range all {
			kp := keyserver.KeyPackage{Ref: []byte{byte(i)}, NotAfter: start, Data: []byte(a.String())}
			err := errors.Join(w.PutAccount(accountOf(a, userID(byte(i)))), w.Deliver(message("m", a.String()), userID(byte(i)), []keyapi.Account{a}), w.AddKeyPackage(a, &kp))
			if err != nil {
				return err
			}
		}
		return nil
	})
	s.update(func(w keyserver.Writer) error {
		for i, a := range all {
			d, err := w.Deliveries(a, 0, 10, 1<<20)
			if err != nil || len(d) != 1 || string(d[0].Message) != a.String() || d[0].Seq != 1 {
				return fmt.Errorf("%q: %+v, %w", a, d, err)
			}
			kp, _, err := w.TakeKeyPackage(a, start)
			if err != nil || kp == nil || string(kp.Data) != a.String() {
				return fmt.Errorf("%q: %+v, %w", a, kp, err)
			}
			if kp, _, err = w.TakeKeyPackage(a, start); err != nil || kp != nil {
				return fmt.Errorf("%q: second KeyPackage %+v, %w", a, kp, err)
			}
			if err := found("account", *accountOf(a, userID(byte(i))))(w.Account(a)); err != nil {
				return err
			}
		}
		return nil
	})
}

func challenges(s *suite) {
	c := keyserver.Challenge{
		ID: keyserver.ChallengeID{1}, User: userID(1), Account: account("a"), Token1: []byte("1"), Token2: []byte("2"), Expires: start.UTC(),
	}
	s.view(func(r keyserver.Reader) error { return absent[keyserver.Challenge]("challenge")(r.Challenge(c.ID)) })
	s.both(func(w keyserver.Writer) error { return w.PutChallenge(&c) },
		func(r keyserver.Reader) error { return found("challenge", c)(r.Challenge(c.ID)) })
	c.Tries = 4
	s.both(func(w keyserver.Writer) error { return w.PutChallenge(&c) },
		func(r keyserver.Reader) error { return found("tried", c)(r.Challenge(c.ID)) })
	s.both(func(w keyserver.Writer) error { return errors.Join(w.DeleteChallenge(c.ID), w.DeleteChallenge(c.ID)) },
		func(r keyserver.Reader) error { return absent[keyserver.Challenge]("used")(r.Challenge(c.ID)) })
}
