package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func newStore(t *testing.T) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyserver.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, path
}

func TestFileIsPrivate(t *testing.T) {
	s, path := newStore(t)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if info, err = os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestSecondProcessIsTold(t *testing.T) {
	_, path := newStore(t)
	_, err := open(path, time.Millisecond)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
}

func TestOtherFormatsAreRefused(t *testing.T) {
	dir := t.TempDir()
	rows := map[string]func(path string) error{
		"not bbolt": func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("mail ", 5000)), 0o600) },
		"next version": func(p string) error {
			return edit(p, func(tx *bolt.Tx) error {
				b, err := tx.CreateBucket([]byte(bucketMeta))
				if err != nil {
					return err
				}
				return b.Put([]byte("format"), []byte("cloudmls keyserver 2"))
			})
		},
		"another program's": func(p string) error {
			return edit(p, func(tx *bolt.Tx) error {
				_, err := tx.CreateBucket([]byte("mailboxes"))
				return err
			})
		},
		"bucket lost": func(p string) error {
			s, err := Open(p)
			if err != nil {
				return err
			}
			if err := s.Close(); err != nil {
				return err
			}
			return edit(p, func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte(bucketInbox)) })
		},
	}
	for name, build := range rows {
		path := filepath.Join(dir, name)
		if err := build(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		before, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(path)
		if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
			t.Errorf("%s: the file was changed", name)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
}

func edit(path string, fn func(*bolt.Tx) error) error {
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		return err
	}
	return errors.Join(db.Update(fn), db.Close())
}

// buckets that are not empty, by number of keys.
func (s *Store) census(t *testing.T) map[string]int {
	t.Helper()
	n := map[string]int{}
	err := s.db.View(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			if k := tx.Bucket([]byte(name)).Stats().KeyN; k > 0 {
				n[name] = k
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func update(t *testing.T, s *Store, fn func(keyserver.Writer) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

// Octets go with their last use: nothing is left behind in the file.
func TestNothingIsLeftBehind(t *testing.T) {
	s, _ := newStore(t)
	u := keyserver.UserID{1}
	a, b := keyapi.Account{Platform: "p", ID: "a"}, keyapi.Account{Platform: "p", ID: "b"}
	now := time.Unix(1_700_000_000, 0)
	update(t, s, func(w keyserver.Writer) error {
		for i := range uint64(3) {
			if err := w.PutObject(u, &keyapi.Object{ID: keyapi.ObjectID{1}, Counter: i + 1, Data: []byte(fmt.Sprint(i))}); err != nil {
				return err
			}
			m := keyapi.Delivery{Type: keyapi.DeliveryCommit, Message: []byte(fmt.Sprint("m", i))}
			if err := w.Deliver(&m, u, []keyapi.Account{a, b}[:1+i%2]); err != nil {
				return err
			}
		}
		session := keyserver.Session{ID: keyserver.SessionID{1}, User: u}
		for i := range uint64(3) {
			session.Generation, session.Token = i, keyserver.Hash{byte(i)}
			if err := w.PutSession(&session); err != nil {
				return err
			}
		}
		if err := w.PutTxResult(u, keyserver.Hash{1}, &keyapi.TxResult{Applied: true}, now); err != nil {
			return err
		}
		return w.PutChallenge(&keyserver.Challenge{ID: keyserver.ChallengeID{1}, Expires: now})
	})
	if n := s.census(t); n[bucketBlobs] != 4 || n[bucketBlobUses] != 1 || n[bucketTokens] != 3 {
		t.Errorf("while in use: %v", n)
	}
	update(t, s, func(w keyserver.Writer) error {
		return errors.Join(
			w.DeleteObject(u, keyapi.ObjectID{1}), w.Acknowledge(a, 3), w.Acknowledge(b, 1),
			w.DeleteSession(keyserver.SessionID{1}), w.Expire(now.Add(time.Second), 10),
		)
	})
	n := s.census(t)
	if len(n) != 2 || n[bucketMeta] != 1 || n[bucketInboxSeq] != 2 {
		t.Errorf("left behind: %v", n)
	}
}

func TestExpiryKeepsWhatWasRenewed(t *testing.T) {
	s, _ := newStore(t)
	u, now := keyserver.UserID{1}, time.Unix(1_700_000_000, 0)
	r := keyapi.TxResult{Applied: true, Epoch: 7}
	update(t, s, func(w keyserver.Writer) error {
		return errors.Join(w.PutTxResult(u, keyserver.Hash{1}, &r, now), w.PutTxResult(u, keyserver.Hash{1}, &r, now.Add(time.Hour)))
	})
	update(t, s, func(w keyserver.Writer) error { return w.Expire(now.Add(time.Minute), 10) })
	err := s.View(context.Background(), func(v keyserver.Reader) error {
		got, err := v.TxResult(u, keyserver.Hash{1}, now.Add(time.Minute))
		if err == nil && (got == nil || *got != r) {
			err = fmt.Errorf("result is %+v", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Old tokens of a session are remembered for a while and no longer.
func TestOldTokensAreForgottenInTheEnd(t *testing.T) {
	s, _ := newStore(t)
	session := keyserver.Session{ID: keyserver.SessionID{1}, User: keyserver.UserID{1}}
	const rotations = keyserver.MaxOldTokens + 10
	update(t, s, func(w keyserver.Writer) error {
		for i := range uint64(rotations) {
			session.Generation, session.Token = i, keyserver.Hash{byte(i >> 8), byte(i)}
			if err := w.PutSession(&session); err != nil {
				return err
			}
		}
		return nil
	})
	err := s.View(context.Background(), func(r keyserver.Reader) error {
		oldest, err := r.SessionByToken(keyserver.Hash{0, 0})
		if err != nil || oldest != nil {
			return fmt.Errorf("oldest token: %v, %w", oldest, err)
		}
		recent, err := r.SessionByToken(keyserver.Hash{0, 11})
		if err != nil || recent == nil {
			return fmt.Errorf("token %d rotations old: %v, %w", rotations-12, recent, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// F31 on disk: accounts whose concatenations are alike share nothing.
func TestFlaw31_KeysAreLengthPrefixed(t *testing.T) {
	s, _ := newStore(t)
	accounts := []keyapi.Account{
		{Platform: "p", ID: "ab"}, {Platform: "pa", ID: "b"}, {Platform: "p", ID: "a"}, {Platform: "p", ID: "a/b"},
		{Platform: "p", ID: "A"}, {Platform: "q", ID: "a"}, {Platform: "p", ID: "a\x00\x00\x00\x00\x00\x00\x00\x01"},
	}
	update(t, s, func(w keyserver.Writer) error {
		for i, a := range accounts {
			m := keyapi.Delivery{Message: []byte(a.String())}
			kp := keyserver.KeyPackage{Ref: []byte{byte(i)}, NotAfter: time.Unix(2_000_000_000, 0), Data: []byte(a.String())}
			if err := errors.Join(w.Deliver(&m, keyserver.UserID{byte(i)}, []keyapi.Account{a}), w.AddKeyPackage(a, &kp)); err != nil {
				return err
			}
		}
		return nil
	})
	update(t, s, func(w keyserver.Writer) error {
		for _, a := range accounts {
			d, err := w.Deliveries(a, 0, 10, 1<<20)
			if err != nil || len(d) != 1 || string(d[0].Message) != a.String() {
				return fmt.Errorf("%q: %+v, %w", a, d, err)
			}
			kp, _, err := w.TakeKeyPackage(a, time.Unix(1, 0))
			if err != nil || kp == nil || string(kp.Data) != a.String() {
				return fmt.Errorf("%q: %+v, %w", a, kp, err)
			}
			if kp, _, err = w.TakeKeyPackage(a, time.Unix(1, 0)); err != nil || kp != nil {
				return fmt.Errorf("%q: second KeyPackage %+v, %w", a, kp, err)
			}
		}
		return nil
	})
}

// A transaction that fails leaves nothing.
func TestFlaw26_FailedUpdateLeavesNothing(t *testing.T) {
	s, _ := newStore(t)
	stop := errors.New("stop")
	err := s.Update(context.Background(), func(w keyserver.Writer) error {
		a := keyapi.Account{Platform: "p", ID: "a"}
		return errors.Join(w.PutUser(&keyserver.User{Name: "x"}), w.Deliver(&keyapi.Delivery{Message: []byte("m")}, keyserver.UserID{}, []keyapi.Account{a}), stop)
	})
	if !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if n := s.census(t); len(n) != 1 {
		t.Errorf("left behind: %v", n)
	}
}
