package pgstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// damages make what each inspection is to find, in a store that fill has
// filled. id is the one that is named; nil: one of the store.
var damages = []struct {
	what, sql string
	id        []byte
}{
	{"objects: octets altered", `UPDATE objects SET data = overlay(data placing '\xff'::bytea from 2)`, damagedObject},
	{"objects: octets altered", `UPDATE objects SET data = substring(data from 1 for 3)`, damagedObject},
	{"objects: octets altered", `UPDATE objects SET hash = '\x00'::bytea`, damagedObject},
	{"objects: ids of the wrong length", `UPDATE objects SET id = '\x0102'::bytea`, nil},
	{"usage", `UPDATE usage SET octets = octets + 1`, damagedName},
	{"usage", `DELETE FROM usage`, damagedName},
	{"usage", `DELETE FROM objects`, damagedName},
	{"tokens", `DELETE FROM sessions`, nil},
	{"sessions", `DELETE FROM tokens`, []byte(damagedSession[:])},
	{"groups", `DELETE FROM conversations`, []byte("group")},
	{"inbox: octets missing", `DELETE FROM messages`, accountKey(damaged)},
	{"inbox: octets missing", `UPDATE messages SET data = '\x'::bytea`, accountKey(damaged)},
	{"inbox: numbers have a gap", `DELETE FROM inbox WHERE seq = 2`, accountKey(damaged)},
	{"inbox: numbers have a gap", `UPDATE inbox_state SET last_seq = 7`, accountKey(damaged)},
	{"inbox: counts do not fit", `UPDATE inbox_state SET messages = 0`, accountKey(damaged)},
	{"inbox: counts do not fit", `UPDATE inbox_state SET octets = octets - 1`, accountKey(damaged)},
	{"inbox: counts by sender", `DELETE FROM inbox_usage`, accountKey(damaged)},
	{"inbox: counts by sender", `UPDATE inbox_usage SET messages = messages + 1`, accountKey(damaged)},
	{"messages: uses do not fit", `UPDATE messages SET uses = uses + 1`, nil},
	{"messages: uses do not fit", `DELETE FROM inbox`, nil},
	{"locks", `DELETE FROM locks WHERE n = 65535`, []byte{}},
}

var (
	damaged        = keyapi.Account{Platform: "email", ID: "a/b@example.org"}
	damagedUser    = keyserver.UserID{1, 2, 3}
	damagedSession = keyserver.SessionID{9}
	damagedID      = keyapi.ObjectID{7}
	damagedName    = damagedUser[:]
	damagedObject  = slices.Concat(damagedUser[:], damagedID[:])
)

// fill puts something into every table that is inspected.
func fill(t *testing.T, s *Store) {
	t.Helper()
	err := s.Update(t.Context(), func(w keyserver.Writer) error {
		return errors.Join(
			w.PutUser(&keyserver.User{ID: damagedUser, Name: "a"}),
			w.PutSession(&keyserver.Session{ID: damagedSession, User: damagedUser, Token: keyserver.Hash{1}}),
			w.PutAccount(&keyserver.Account{Account: damaged, User: damagedUser}),
			w.PutObject(damagedUser, &keyapi.Object{ID: damagedID, Counter: 1, Data: []byte("sealed octets")}),
			w.PutConversation(&keyserver.Conversation{ID: keyserver.ConversationID{5}, Kind: keyapi.KindGroup, Group: []byte("group"), Epoch: 1}),
			w.Deliver(&keyapi.Delivery{Type: keyapi.DeliveryCommit, Message: []byte("one")}, keyserver.UserID{2}, []keyapi.Account{damaged}),
			w.Deliver(&keyapi.Delivery{Type: keyapi.DeliveryCommit, Message: []byte("two")}, keyserver.UserID{2}, []keyapi.Account{damaged}),
			w.Deliver(&keyapi.Delivery{Type: keyapi.DeliveryCommit, Message: []byte("three")}, keyserver.UserID{3}, []keyapi.Account{damaged}),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestCheckFindsDamage: every inspection finds what it is for, and names it.
func TestCheckFindsDamage(t *testing.T) {
	s := open(t, newOptions())
	check := func() []string {
		t.Helper()
		list, err := s.Check(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	tried := map[string]bool{}
	for _, d := range damages {
		empty(t, s)
		fill(t, s)
		if list := check(); len(list) > 0 {
			t.Fatalf("a sound store: %q", list)
		}
		if _, err := s.pool.Exec(t.Context(), d.sql); err != nil {
			t.Fatalf("%s: %v", d.sql, err)
		}
		list := check()
		i := slices.IndexFunc(list, func(f string) bool { return strings.HasPrefix(f, d.what) })
		if i < 0 || d.id != nil && !strings.HasSuffix(list[i], fmt.Sprintf(": %x", d.id)) {
			t.Errorf("%s: found %q, want %s with %x", d.sql, list, d.what, d.id)
			continue
		}
		for _, x := range inspections {
			tried[x.what] = tried[x.what] || strings.HasPrefix(x.what, d.what) && strings.HasPrefix(list[i], x.what)
		}
		if d.what == "locks" { // not among the tables that are emptied
			if _, err := s.pool.Exec(t.Context(), "INSERT INTO locks (n) VALUES (65535)"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, x := range inspections {
		if !tried[x.what] {
			t.Errorf("nothing shows that %q is found", x.what)
		}
	}
}

// TestCheckOfMuchDamage: of one sort a number is listed, and that there are more;
// what the names are is no secret of others.
func TestCheckOfMuchDamage(t *testing.T) {
	s := open(t, newOptions())
	for i := range byte(30) {
		err := s.Update(t.Context(), func(w keyserver.Writer) error {
			return w.PutObject(damagedUser, &keyapi.Object{ID: keyapi.ObjectID{i}, Counter: 1, Data: []byte("secret octets")})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.pool.Exec(t.Context(), "UPDATE objects SET hash = user_id"); err != nil {
		t.Fatal(err)
	}
	list, err := s.Check(t.Context())
	if err != nil || len(list) != maxFindings+1 || !strings.Contains(list[maxFindings], "more") {
		t.Errorf("%d findings, %v: %q", len(list), err, list)
	}
	if bytes.Contains([]byte(fmt.Sprint(list)), []byte("secret")) {
		t.Errorf("the findings hold octets: %q", list)
	}
}

// TestDamageIsNotServed: what has lost its octets is an error, not something else
// and not nothing.
func TestDamageIsNotServed(t *testing.T) {
	s := open(t, newOptions())
	for name, row := range map[string]struct {
		sql  string
		read func(keyserver.Reader) error
	}{
		"a message without octets": {`DELETE FROM messages`, func(r keyserver.Reader) error {
			_, err := r.Deliveries(damaged, 0, 10, 1<<20)
			return err
		}},
		"a record that is no record": {`UPDATE accounts SET record = '\x7b'::bytea`, func(r keyserver.Reader) error {
			_, err := r.Account(damaged)
			return err
		}},
		"a user of half an id": {`UPDATE users SET record = 'x'::bytea`, func(r keyserver.Reader) error {
			_, err := r.UserByName("a")
			return err
		}},
	} {
		empty(t, s)
		fill(t, s)
		if _, err := s.pool.Exec(t.Context(), row.sql); err != nil {
			t.Fatal(err)
		}
		err := s.View(context.WithoutCancel(t.Context()), row.read)
		if err == nil || errors.Is(err, keyserver.ErrUnavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
