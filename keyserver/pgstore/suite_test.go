package pgstore

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/storetest"
	"github.com/cloudmls/gateway/test/postgres"
)

// database is one server for all tests; each has a schema of its own.
var database *postgres.Server

func TestMain(m *testing.M) {
	code, err := withDatabase(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func withDatabase(m *testing.M) (code int, err error) {
	if database, err = postgres.Start(); err != nil {
		return 1, err
	}
	code = m.Run()
	return code, database.Stop()
}

var schemas atomic.Int64

func newOptions() Options {
	return Options{DSN: database.DSN("postgres"), Schema: fmt.Sprint("test", schemas.Add(1)), MaxConns: 8}
}

func open(t *testing.T, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// harness uses one schema: making one takes a second.
func harness(change func(*Options)) storetest.Harness {
	o := newOptions()
	change(&o)
	return storetest.Harness{
		New: func(t *testing.T) keyserver.Store {
			s := open(t, o)
			empty(t, s)
			return s
		},
		Reopen: func(t *testing.T, s keyserver.Store) keyserver.Store {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			return open(t, s.(*Store).options)
		},
		Census: func(t *testing.T, s keyserver.Store) map[string]int { return census(t, s.(*Store)) },
		Check: func(t *testing.T, s keyserver.Store) []string {
			list, err := s.(*Store).Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return list
		},
	}
}

func TestStore(t *testing.T) { storetest.Run(t, harness(func(*Options) {})) }

// The same at SERIALIZABLE and without notifications, as on CockroachDB.
func TestStoreSerializable(t *testing.T) {
	storetest.Run(t, harness(func(o *Options) { o.Serializable, o.Poll = true, 1e9 }))
}

// tables with the names that the suite has for them.
var tables = map[string]string{
	"meta": "meta", "users": "users", "sessions": "sessions", "tokens": "tokens", "accounts": "accounts", "challenges": "challenges",
	"keypackages": "pool", "last_resort": "last_resort", "keypackage_refs": "references", "objects": "octets", "usage": "usage",
	"results": "results", "conversations": "conversations", "mls_groups": "groups", "messages": "octets", "inbox": "inbox",
	"inbox_state": "inbox numbers", "inbox_usage": "inbox_usage", "notes": "notes",
}

func empty(t *testing.T, s *Store) {
	t.Helper()
	for table := range tables {
		if _, err := s.pool.Exec(t.Context(), "DELETE FROM "+table); err != nil {
			t.Fatal(err)
		}
	}
}

// census counts rows.
func census(t *testing.T, s *Store) map[string]int {
	t.Helper()
	n := map[string]int{}
	for table, name := range tables {
		var rows int
		if err := s.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&rows); err != nil {
			t.Fatal(err)
		}
		if rows > 0 {
			n[name] += rows
		}
	}
	return n
}
