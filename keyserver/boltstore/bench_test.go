package boltstore

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

const benchObject = 500 // octets

func benchUser(i int) keyserver.UserID { return keyserver.UserID{byte(i * 37), byte(i >> 8), byte(i)} }

// changeOne is what a transaction of the API does, without a Commit.
func changeOne(b *testing.B, s *Store, user int) error {
	u, id := benchUser(user), keyapi.ObjectID{1}
	return s.Update(b.Context(), func(w keyserver.Writer) error {
		v, err := w.ObjectVersion(u, id)
		if err != nil {
			return err
		}
		o := keyapi.Object{ID: id, Counter: 1, Data: make([]byte, benchObject)}
		if v != nil {
			o.Counter = v.Counter + 1
		}
		body := keyserver.Hash(sha256.Sum256(fmt.Appendf(nil, "%x %d", u, o.Counter)))
		now := time.Now()
		return errors.Join(w.PutObject(u, &o), w.Expire(now, 64), w.PutTxResult(u, body, &keyapi.TxResult{Applied: true}, now.Add(24*time.Hour)))
	})
}

// fillObjects writes n objects of n/10 users.
func fillObjects(b *testing.B, s *Store, n int) {
	b.Helper()
	for from := 0; from < n/10; from += 5000 {
		err := s.Update(b.Context(), func(w keyserver.Writer) error {
			for user := from; user < min(from+5000, n/10); user++ {
				for i := range byte(10) {
					if err := w.PutObject(benchUser(user), &keyapi.Object{ID: keyapi.ObjectID{i + 1}, Counter: 1, Data: make([]byte, benchObject)}); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkObjectsStored: a transaction, by the number of objects in the file,
// and what opening the file takes.
func BenchmarkObjectsStored(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "keyserver.db")
			s, err := Open(path)
			if err != nil {
				b.Fatal(err)
			}
			fillObjects(b, s, n)
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
			if _, _, err := Compact(path); err != nil { // filling in large steps leaves more free pages than years of use
				b.Fatal(err)
			}
			begin := time.Now()
			if s, err = Open(path); err != nil {
				b.Fatal(err)
			}
			opened := time.Since(begin)
			b.Cleanup(func() {
				if err := s.Close(); err != nil {
					b.Error(err)
				}
			})
			for b.Loop() {
				if err := changeOne(b, s, rand.IntN(n/10)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(opened.Milliseconds()), "open-ms")
		})
	}
}

// BenchmarkClients: transactions of the API and bare puts of bbolt, by the number
// of clients at once.
func BenchmarkClients(b *testing.B) {
	for _, clients := range []int{1, 16, 128} {
		run := func(name string, do func(s *Store, user int) error) {
			b.Run(fmt.Sprint(name, "/", clients), func(b *testing.B) {
				s, err := Open(filepath.Join(b.TempDir(), "keyserver.db"))
				if err != nil {
					b.Fatal(err)
				}
				fillObjects(b, s, 10_000)
				b.ResetTimer()
				var wg sync.WaitGroup
				for c := range clients {
					wg.Go(func() {
						for range (b.N + clients - 1) / clients {
							if err := do(s, rand.IntN(1000/clients+1)*clients+c); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tx/s")
				if err := s.Close(); err != nil {
					b.Error(err)
				}
			})
		}
		run("transaction", func(s *Store, user int) error { return changeOne(b, s, user) })
		run("bare", func(s *Store, user int) error {
			return s.db.Batch(func(tx *bolt.Tx) error {
				u := benchUser(user)
				return tx.Bucket([]byte(bucketBlobs)).Put(u[:], make([]byte, benchObject))
			})
		})
	}
}
