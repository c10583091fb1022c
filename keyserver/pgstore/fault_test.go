package pgstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func deliver(s *Store, a keyapi.Account) error {
	return s.Update(context.Background(), func(w keyserver.Writer) error {
		return w.Deliver(&keyapi.Delivery{Type: keyapi.DeliveryCommit, Message: []byte("m")}, keyserver.UserID{1}, []keyapi.Account{a})
	})
}

// ear is a server with one long-poll.
type ear struct {
	heard   chan keyserver.Topic
	all     chan struct{}
	waiting []keyapi.Account
}

func (e *ear) Wake(topics []keyserver.Topic) {
	for _, t := range topics {
		select {
		case e.heard <- t:
		default:
		}
	}
}

func (e *ear) WakeAll() {
	select {
	case e.all <- struct{}{}:
	default:
	}
}

func (e *ear) WaitingFor() []keyapi.Account { return e.waiting }

// Another process hears of a delivery and of a session's end, by notification
// and without.
func TestOtherProcessesHear(t *testing.T) {
	a := keyapi.Account{Platform: "email", ID: "a/b@example.org"}
	session := keyserver.Session{ID: keyserver.SessionID{1}, User: keyserver.UserID{1}, Token: keyserver.Hash{1}}
	o := newOptions()
	one, two := open(t, o), open(t, o)
	e := &ear{heard: make(chan keyserver.Topic, 100), all: make(chan struct{}, 1)} // waits for nothing: only a notification tells it
	defer two.Subscribe(e)()
	end := func() error {
		return errors.Join(one.Update(t.Context(), func(w keyserver.Writer) error { return w.PutSession(&session) }),
			one.Update(t.Context(), func(w keyserver.Writer) error { return w.DeleteSession(session.ID) }))
	}
	want := map[keyserver.Topic]bool{keyserver.AccountTopic(a): true, keyserver.SessionTopic(session.ID): true}
	for len(want) > 0 { // again, until the connection that listens is there
		if err := errors.Join(deliver(one, a), end()); err != nil {
			t.Fatal(err)
		}
		select {
		case topic := <-e.heard:
			delete(want, topic)
		case <-time.After(50 * time.Millisecond):
		case <-t.Context().Done():
			t.Fatal("nothing was heard")
		}
	}

	o.Poll = 5 * time.Millisecond
	three := open(t, o)
	polled := &ear{heard: make(chan keyserver.Topic, 100), all: make(chan struct{}, 1), waiting: []keyapi.Account{a}}
	defer three.Subscribe(polled)()
	for range 2 { // when it looks first, and when something changes
		if topic := <-polled.heard; topic != keyserver.AccountTopic(a) {
			t.Errorf("heard %x", topic)
		}
		if err := deliver(one, a); err != nil {
			t.Fatal(err)
		}
	}
}

// While the database is down the answer is "unavailable", and afterwards the
// same store serves on, all of its old connections being dead.
func TestRestartOfTheDatabaseIsSurvived(t *testing.T) {
	s := open(t, newOptions())
	a := keyapi.Account{Platform: "email", ID: "a"}
	var wg sync.WaitGroup
	for range 8 { // fills the pool
		wg.Go(func() {
			if err := deliver(s, a); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, stop := range []func() error{database.Crash, database.Down} {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if err := deliver(s, a); !errors.Is(err, keyserver.ErrUnavailable) {
			t.Errorf("down: %v", err)
		}
		err := s.View(t.Context(), func(r keyserver.Reader) error { _, err := r.Mark(); return err })
		if !errors.Is(err, keyserver.ErrUnavailable) {
			t.Errorf("down: %v", err)
		}
		if err := database.Up(); err != nil {
			t.Fatal(err)
		}
		if err := deliver(s, a); err != nil {
			t.Errorf("up again: %v", err)
		}
	}
	err := s.View(t.Context(), func(r keyserver.Reader) error {
		last, err := r.LastSeq(a)
		if err == nil && last != 10 {
			err = fmt.Errorf("%d deliveries are left", last)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// Processes that start together agree on who migrates; another version is
// refused, and one that may not migrate says so.
func TestMigrations(t *testing.T) {
	o := newOptions()
	no := o
	no.NoMigrate = true
	if _, err := Open(t.Context(), no); !errors.Is(err, ErrVersion) {
		t.Errorf("without tables: %v", err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			s, err := Open(t.Context(), o)
			if err != nil {
				t.Error(err)
				return
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := open(t, no)
	if _, err := s.pool.Exec(t.Context(), "INSERT INTO schema_version (version) VALUES (99)"); err != nil {
		t.Fatal(err)
	}
	for _, x := range []Options{o, no} {
		if _, err := Open(t.Context(), x); !errors.Is(err, ErrVersion) {
			t.Errorf("newer tables: %v", err)
		}
	}
}

// Of processes that start together, one may come to a table between another's
// look for the table and its look for the table's row type, which is then
// there already (42710): here a type of that name stands in the way once.
func TestMigrationsMeetHalfWay(t *testing.T) {
	o := newOptions()
	first := open(t, o)
	elsewhere := newOptions()
	for _, sql := range []string{"CREATE SCHEMA " + elsewhere.Schema, "CREATE TYPE " + elsewhere.Schema + ".schema_lock AS ENUM ()"} {
		if _, err := first.pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	var met int
	elsewhere.Logger = slog.New(whenLogged("migration is tried again", func() {
		met++
		if _, err := first.pool.Exec(t.Context(), "DROP TYPE "+elsewhere.Schema+".schema_lock"); err != nil {
			t.Error(err)
		}
	}))
	open(t, elsewhere)
	if met != 1 {
		t.Errorf("tried again %d times", met)
	}
}

// whenLogged runs f at each record with that message.
func whenLogged(message string, f func()) slog.Handler {
	return slog.NewTextHandler(io.Discard, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.MessageKey && a.Value.String() == message {
			f()
		}
		return a
	}})
}

// Connections are pinned; nothing in a public schema is ever found first.
func TestConnectionsArePinned(t *testing.T) {
	o := newOptions()
	o.StatementTimeout = 1500 * time.Millisecond
	s := open(t, o)
	for name, want := range map[string]string{
		"search_path": o.Schema, "statement_timeout": "1500ms", "idle_in_transaction_session_timeout": "1500ms", "fsync": "on",
	} {
		var got string
		if err := s.pool.QueryRow(t.Context(), "SELECT current_setting($1)", name).Scan(&got); err != nil || got != want {
			t.Errorf("%s = %q, want %q, %v", name, got, want, err)
		}
	}
	_, err := s.pool.Exec(t.Context(), "SELECT pg_sleep(10)")
	if err := outcome(t.Context(), fromDatabase(err)); !errors.Is(err, keyserver.ErrUnavailable) {
		t.Errorf("statement timeout: %v", err)
	}
}

// Bad options are named; no error shows the connection string.
func TestOptionsAreChecked(t *testing.T) {
	rows := map[string]Options{
		"DSN is missing": {},
		"Schema":         {DSN: "host=/tmp", Schema: `x"; DROP`},
		"out of bounds":  {DSN: "host=/tmp", MaxConns: -1},
		"libpq":          {DSN: "postgres://u:sesame@host:port/x"},
		"in clear":       {DSN: "postgres://u:sesame@db.example.org/x"},
		"clear text":     {DSN: "postgres://u:sesame@db.example.org/x?sslmode=disable"},
	}
	for want, o := range rows {
		_, err := Open(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, dsn := range []string{"postgres://u:sesame@db.example.org/x?sslmode=verify-full", "host=/run/postgresql", "postgres://u:sesame@127.0.0.1/x?sslmode=disable"} {
		o := Options{DSN: dsn}
		if _, err := o.config(); err != nil {
			t.Errorf("%v", err)
		}
	}
	_, err := Open(t.Context(), Options{DSN: "postgres://u:sesame@127.0.0.1:1/x?sslmode=disable"})
	if !errors.Is(err, keyserver.ErrUnavailable) || strings.Contains(err.Error(), "sesame") {
		t.Errorf("nobody there: %v", err)
	}
}
