package boltstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func fill(t *testing.T, s *Store, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		err := s.Update(t.Context(), func(w keyserver.Writer) error {
			u := keyserver.UserID{byte(i)}
			a := keyapi.Account{Platform: "p", ID: fmt.Sprint(i)}
			m := keyapi.Delivery{Type: keyapi.DeliveryCommit, Message: []byte("m")}
			return errors.Join(w.PutUser(&keyserver.User{ID: u, Name: fmt.Sprint("u", i)}), w.Deliver(&m, u, []keyapi.Account{a, {Platform: "p", ID: "all"}}),
				w.PutSession(&keyserver.Session{ID: keyserver.SessionID{byte(i)}, User: u, Token: keyserver.Hash{byte(i)}}),
				w.PutAccount(&keyserver.Account{Account: a, User: u}),
				w.PutObject(u, &keyapi.Object{ID: keyapi.ObjectID{byte(i)}, Counter: 1, Data: bytes.Repeat([]byte{byte(i)}, 20_000)}))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A backup that is made under load is one moment, and Restore overwrites nothing.
func TestBackupWhileServingAndRestore(t *testing.T) {
	s, path := newStore(t)
	fill(t, s, 0, 20)
	backup := filepath.Join(filepath.Dir(path), "backup.db")
	done := make(chan struct{})
	go func() { defer close(done); fill(t, s, 20, 60) }()
	if err := s.BackupFile(t.Context(), backup); err != nil {
		t.Fatal(err)
	}
	<-done
	if info, err := os.Stat(backup); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := s.BackupFile(t.Context(), backup); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second backup in the same place: %v", err)
	}
	if err := Restore(t.Context(), backup, path); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("restore over a store: %v", err)
	}
	other := filepath.Join(filepath.Dir(path), "restored.db")
	if err := Restore(t.Context(), backup, other); err != nil {
		t.Fatal(err)
	}
	r, err := Open(other)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if list := findings(t, r); len(list) > 0 {
		t.Errorf("restored: %v", list)
	}
	if n := r.census(t)["users"]; n < 20 || n > 60 {
		t.Errorf("%d users", n)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Backup(ctx, new(bytes.Buffer)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled backup: %v", err)
	}
}

func TestRestoreTakesNoDamagedBackup(t *testing.T) {
	s, path := newStore(t)
	fill(t, s, 0, 3)
	dir := filepath.Dir(path)
	rows := map[string]func(p string) error{
		"cut off": func(p string) error { return os.Truncate(p, 50_000) },
		"octets altered": func(p string) error {
			return edit(p, func(tx *bolt.Tx) error {
				return tx.Bucket([]byte(bucketBlobs)).Put(num(2), bytes.Repeat([]byte{9}, 20_000))
			})
		},
		"not a store": func(p string) error { return os.WriteFile(p, []byte("mail"), 0o600) },
	}
	for name, damage := range rows {
		backup, to := filepath.Join(dir, name), filepath.Join(dir, name+" restored")
		if err := s.BackupFile(t.Context(), backup); err != nil {
			t.Fatal(err)
		}
		if err := damage(backup); err != nil {
			t.Fatal(err)
		}
		if err := Restore(t.Context(), backup, to); err == nil || !strings.Contains(err.Error(), backup) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(to); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCompact(t *testing.T) {
	s, path := newStore(t)
	fill(t, s, 0, 40)
	if _, _, err := Compact(path); !errors.Is(err, ErrLocked) {
		t.Errorf("while a server has it: %v", err)
	}
	for i := range 39 {
		update := func(w keyserver.Writer) error {
			return w.DeleteObject(keyserver.UserID{byte(i)}, keyapi.ObjectID{byte(i)})
		}
		if err := s.Update(t.Context(), update); err != nil {
			t.Fatal(err)
		}
	}
	before := s.census(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old, small, err := Compact(path)
	if err != nil || small*2 > old {
		t.Fatalf("from %d to %d octets, %v", old, small, err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if after := again.census(t); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("before %v, after %v", before, after)
	}
	if list := findings(t, again); len(list) > 0 {
		t.Errorf("compacted: %v", list)
	}
	if _, _, err := Compact(path + " elsewhere"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("file that is not there: %v", err)
	}
}

// Check names each sort of damage.
func TestCheckNamesWhatIsWrong(t *testing.T) {
	u := keyserver.UserID{1}
	account := accountKey(keyapi.Account{Platform: "p", ID: "1"})
	rows := map[string]func(tx *tx) error{
		bucketUserNames:     func(t *tx) error { return t.bucket(bucketUserNames).Put([]byte("ghost"), make([]byte, 16)) },
		bucketUsers:         func(t *tx) error { return t.bucket(bucketUserNames).Delete([]byte("u1")) },
		bucketSessions:      func(t *tx) error { return t.bucket(bucketUserSessions).deleteAll(u[:]) },
		bucketSessionTokens: func(t *tx) error { return t.bucket(bucketSessions).deleteAll(u[:1]) },
		bucketAccounts:      func(t *tx) error { return t.bucket(bucketUserAccounts).deleteAll(u[:]) },
		bucketUserAccounts:  func(t *tx) error { return t.bucket(bucketAccounts).Delete(account) },
		bucketObjects:       func(t *tx) error { return t.bucket(bucketBlobs).Put(num(2), []byte("altered")) },
		bucketUsage:         func(t *tx) error { return t.addUsage(u, 1, 1) },
		bucketBlobs:         func(t *tx) error { _, err := t.addBlob([]byte("orphan"), 1); return err },
		bucketInbox:         func(t *tx) error { return t.bucket(bucketBlobs).Delete(num(3)) },
		bucketInboxSeq:      func(t *tx) error { return t.bucket(bucketInboxSeq).Put(account, num(7)) },
		bucketInboxUsage:    func(t *tx) error { return t.countInbox(account, keyserver.UserID{7}, 1, 1) },
		bucketConversations: func(t *tx) error {
			return put(t.bucket(bucketConversations), make([]byte, 17), &keyserver.Conversation{Group: []byte("g")})
		},
		bucketPool: func(t *tx) error { return t.bucket(bucketPool).Put(join(account, num(1)), []byte{1}) },
	}
	for what, damage := range rows {
		s, _ := newStore(t)
		fill(t, s, 0, 3)
		if list := findings(t, s); len(list) > 0 {
			t.Fatalf("sound: %v", list)
		}
		if err := s.db.Update(func(btx *bolt.Tx) error { return damage(&tx{Tx: btx}) }); err != nil {
			t.Fatal(err)
		}
		if list := findings(t, s); !strings.Contains(strings.Join(list, "\n"), what+": ") {
			t.Errorf("%s: %v", what, list)
		}
	}
}
