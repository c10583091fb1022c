package boltstore

import (
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		New: func(t *testing.T) keyserver.Store { s, _ := newStore(t); return s },
		Reopen: func(t *testing.T, s keyserver.Store) keyserver.Store {
			path := s.(*Store).path
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			again, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := again.Close(); err != nil {
					t.Error(err)
				}
			})
			return again
		},
		Census: func(t *testing.T, s keyserver.Store) map[string]int { return s.(*Store).census(t) },
		Check:  func(t *testing.T, s keyserver.Store) []string { return findings(t, s.(*Store)) },
	})
}

func findings(t *testing.T, s *Store) []string {
	t.Helper()
	list, err := s.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// census counts keys by bucket, under the names that the suite has for them.
func (s *Store) census(t *testing.T) map[string]int {
	t.Helper()
	names := map[string]string{bucketBlobs: "octets", bucketInboxSeq: "inbox numbers"}
	n := map[string]int{}
	err := s.db.View(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			k := tx.Bucket([]byte(name)).Stats().KeyN
			if name == bucketMeta {
				k-- // the format
			}
			if other := names[name]; other != "" {
				name = other
			}
			if k > 0 && name != bucketExpiry { // what it names may be gone
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
