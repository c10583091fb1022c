package benchkeyserver

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/test/benchkeyserver/process"
)

const (
	objectsOfOne = 10  // objects of each user that only fills the store
	objectSize   = 256 // octets
	fillAtOnce   = 20_000
)

// fillFile writes n objects into a file, in the order of its keys, and packs it:
// filling in large steps leaves more free pages than years of use.
func fillFile(b testing.TB, path string, n int) {
	b.Helper()
	s, err := boltstore.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	data := random(objectSize)
	for from := 0; from < n; from += fillAtOnce {
		err := s.Update(context.Background(), func(w keyserver.Writer) error {
			for i := from; i < min(from+fillAtOnce, n); i++ {
				user, object := fillUser(i/objectsOfOne, n/objectsOfOne), keyapi.ObjectID(sha256.Sum256([]byte{byte(i % objectsOfOne)}))
				if err := w.PutObject(user, &keyapi.Object{ID: object, Counter: 1, Data: data}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		if (from+fillAtOnce)%200_000 == 0 {
			progress("%d of %d objects", from+fillAtOnce, n)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	if _, _, err := boltstore.Compact(path); err != nil {
		b.Fatal(err)
	}
}

// fillUser spreads users over the keys, in order.
func fillUser(i, of int) keyserver.UserID {
	at := uint64(i) * (^uint64(0) / uint64(of))
	var u keyserver.UserID
	for j := range 8 {
		u[j] = byte(at >> (56 - 8*j))
	}
	return u
}

// fillDatabase writes n objects with statements of the database itself, into
// tables that a server has made.
func fillDatabase(b testing.TB, dsn string, n int) {
	b.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := conn.Close(ctx); err != nil {
			b.Error(err)
		}
	}()
	if _, err := conn.Exec(ctx, "SET search_path = cloudmls_keyserver"); err != nil {
		b.Fatal(err)
	}
	for from := 0; from < n; from += 10 * fillAtOnce {
		to := min(from+10*fillAtOnce, n) - 1
		for _, sql := range []string{
			`INSERT INTO objects (user_id, id, counter, size, hash, data)
				SELECT decode(md5((i / 10)::text), 'hex'), sha256(i::text::bytea), 1, 256, sha256(d), d
				FROM (SELECT i, decode(repeat(md5(i::text), 16), 'hex') AS d FROM generate_series($1::bigint, $2::bigint) AS i) AS made`,
			`INSERT INTO usage (user_id, objects, octets)
				SELECT decode(md5(u::text), 'hex'), 10, 2560 FROM generate_series($1::bigint / 10, $2::bigint / 10) AS u ON CONFLICT DO NOTHING`,
		} {
			if _, err := conn.Exec(ctx, sql, from, to); err != nil {
				b.Fatal(err)
			}
		}
		progress("%d of %d objects", to+1, n)
	}
	for _, sql := range []string{"ANALYZE objects", "ANALYZE usage", "CHECKPOINT"} { // as long as nobody is measured
		if _, err := conn.Exec(ctx, sql); err != nil {
			b.Fatal(err)
		}
	}
}

func fill(b testing.TB, c process.Config, n int) {
	b.Helper()
	progress("filling with %d objects", n)
	if c.File != "" {
		fillFile(b, c.File, n)
		return
	}
	store, err := c.Open() // makes the tables
	if err == nil {
		err = store.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
	fillDatabase(b, c.DSN, n)
}

// BenchmarkObjectsStored: a transaction by the number of objects in the store,
// and what a start takes.
func BenchmarkObjectsStored(b *testing.B) { objectsStored(b, chosen()) }

// writers is how many users write, in turn: one would find all pages at hand.
const writers = 64

func objectsStored(b testing.TB, s scale) {
	for _, k := range stores(b) {
		var servers []*process.Process
		var wires []*wire
		var people [][]*person
		for _, n := range s.objects {
			c := k.config(b)
			fill(b, c, n)
			if c.File != "" {
				info, err := os.Stat(c.File)
				if err != nil {
					b.Fatal(err)
				}
				figure{"disk-of-object", fmt.Sprintf("store=%s,objects=%d,octets=%d", k.name, n, objectSize), float64(info.Size()) / float64(n), 0, "B", 0, false}.print()
			}
			people = append(people, prepare(b, c, writers, 0))
			startUp(b, s, k, c, n)
			server := start(b, c)
			servers, wires = append(servers, server), append(wires, dialMany(b, server.Address, 1)...)
		}
		loads := make([]load, len(servers))
		for i := range s.pairs {
			for j := range servers { // in turn, so that whatever else goes on meets both
				begin := time.Now()
				if err := people[j][i%writers].put(wires[j]); err != nil {
					b.Fatal(err)
				}
				loads[j].took = append(loads[j].took, time.Since(begin))
			}
		}
		few, many := s.objects[0], s.objects[len(s.objects)-1]
		for _, q := range []struct {
			name string
			at   float64
			most float64
		}{{"p50", 0.5, 1.3}, {"p99", 0.99, 0}} {
			figure{
				"tx-by-objects-" + q.name, fmt.Sprintf("store=%s,objects=%d,beside=%d", k.name, many, few),
				ms(loads[len(loads)-1].quantile(q.at)), ms(loads[0].quantile(q.at)), "ms", q.most, false,
			}.print()
		}
	}
}

// startUpBound is how long a start may take, in ms.
const startUpBound = 2000

func startUp(b testing.TB, s scale, k kind, c process.Config, n int) {
	b.Helper()
	if n != s.objects[len(s.objects)-1] {
		return
	}
	var ready, open time.Duration // of the slowest of three
	for range 3 {
		p, err := process.Start(c)
		if err != nil {
			b.Fatal(err)
		}
		ready, open = max(ready, p.Ready), max(open, p.Open)
		if err := p.Stop(); err != nil {
			b.Fatal(err)
		}
	}
	parameters := fmt.Sprintf("store=%s,objects=%d", k.name, n)
	figure{"start-up", parameters, ms(ready), startUpBound, "ms", 1, false}.print()
	figure{"start-up-open-store", parameters, ms(open), 0, "ms", 0, false}.print()
}
