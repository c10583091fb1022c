package benchkeyserver

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	mathrand "math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	bolt "go.etcd.io/bbolt"
)

// payload is what a transaction writes, ours and the bare one.
const payload = 1024

// bareRows is how many rows the bare transactions choose from.
const bareRows = 10_000

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// bareBolt gives transactions of bbolt itself: one put each, those of all
// clients that wait synced together.
func bareBolt(b testing.TB, clients int) func(client int) error {
	b.Helper()
	db, err := bolt.Open(filepath.Join(b.TempDir(), "bare.db"), 0o600, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	name, value := []byte("bare"), random(payload)
	err = db.Update(func(tx *bolt.Tx) error {
		bucket, err := tx.CreateBucket(name)
		for i := 0; i < bareRows && err == nil; i++ {
			err = bucket.Put(binary.BigEndian.AppendUint64(nil, uint64(i)), value)
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	// The best that Batch can do: it waits for nobody who cannot come.
	db.MaxBatchSize, db.MaxBatchDelay = clients, time.Millisecond
	begin := db.Batch
	if clients == 1 {
		begin = db.Update
	}
	return func(int) error {
		key := binary.BigEndian.AppendUint64(nil, mathrand.Uint64N(bareRows))
		return begin(func(tx *bolt.Tx) error { return tx.Bucket(name).Put(key, value) })
	}
}

// barePostgres gives updates of one row, each on a connection of its own.
func barePostgres(b testing.TB, dsn string, clients int) func(client int) error {
	b.Helper()
	ctx := context.Background()
	conns := make([]*pgx.Conn, clients)
	for i := range conns {
		var err error
		if conns[i], err = pgx.Connect(ctx, dsn); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := conns[i].Close(ctx); err != nil {
				b.Error(err)
			}
		})
	}
	value := random(payload)
	for _, sql := range []string{
		"CREATE TABLE IF NOT EXISTS bare (id integer PRIMARY KEY, data bytea NOT NULL)",
		"ALTER TABLE bare ALTER COLUMN data SET STORAGE EXTERNAL",
		"INSERT INTO bare SELECT i, decode(repeat('a7', 1024), 'hex') FROM generate_series(0, 9999) AS i ON CONFLICT DO NOTHING",
	} {
		if _, err := conns[0].Exec(ctx, sql); err != nil {
			b.Fatal(err)
		}
	}
	return func(client int) error {
		_, err := conns[client].Exec(ctx, "UPDATE bare SET data = $2 WHERE id = $1", mathrand.IntN(bareRows), value)
		return err
	}
}
