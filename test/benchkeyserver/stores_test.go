package benchkeyserver

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyservertest"
	"github.com/cloudmls/gateway/test/benchkeyserver/process"
	"github.com/cloudmls/gateway/test/postgres"
)

// kind is one of the two stores.
type kind struct {
	name string
	// config is that of a new and empty store.
	config func(b testing.TB) process.Config
	// bare gives the store's own transactions.
	bare func(b testing.TB, c process.Config, clients int) func(client int) error
}

// stores gives both, or the one that BENCH_KEYSERVER_STORE names; PostgreSQL runs
// until the end of the benchmark.
func stores(b testing.TB) []kind {
	b.Helper()
	file := kind{
		name: "file",
		config: func(b testing.TB) process.Config {
			return config(process.Config{File: filepath.Join(b.TempDir(), "keyserver.db")})
		},
		bare: func(b testing.TB, _ process.Config, clients int) func(int) error { return bareBolt(b, clients) },
	}
	switch os.Getenv("BENCH_KEYSERVER_STORE") {
	case file.name:
		return []kind{file}
	case "postgresql":
		return []kind{postgresql(b)}
	}
	return []kind{file, postgresql(b)}
}

func postgresql(b testing.TB) kind {
	b.Helper()
	pg, err := postgres.Start()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			b.Error(err)
		}
	})
	return kind{
		name: "postgresql",
		config: func(b testing.TB) process.Config {
			dsn, err := pg.NewDatabase()
			if err != nil {
				b.Fatal(err)
			}
			return config(process.Config{DSN: dsn, MaxConns: connections()})
		},
		bare: func(b testing.TB, c process.Config, clients int) func(int) error {
			return barePostgres(b, c.DSN, clients)
		},
	}
}

// connections of a server to PostgreSQL: 0, the default of the store, unless
// BENCH_KEYSERVER_CONNS says otherwise.
func connections() int {
	n, err := strconv.Atoi(os.Getenv("BENCH_KEYSERVER_CONNS"))
	if err != nil {
		return 0
	}
	return n
}

// config takes the limits away that a benchmark would run into.
func config(c process.Config) process.Config {
	c.Limits = keyservertest.Unlimited()
	c.Limits.Inbox, c.Limits.InboxFrom = 1<<30, 1<<28
	c.Limits.InboxBytes, c.Limits.InboxBytesFrom = 1<<40, 1<<38
	c.Limits.Connections, c.Limits.ConnectionsFrom, c.Limits.LongPollsFrom = -1, -1, -1
	c.Profile = os.Getenv("BENCH_KEYSERVER_PROFILE")
	return c
}

func start(b testing.TB, c process.Config) *process.Process {
	b.Helper()
	p, err := process.Start(c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := p.Stop(); err != nil {
			b.Error(err)
		}
	})
	return p
}

// dialMany gives connections that are made when they are used.
func dialMany(b testing.TB, address string, n int) []*wire {
	b.Helper()
	wires := make([]*wire, n)
	for i := range wires {
		wires[i] = &wire{address: address}
		b.Cleanup(wires[i].close)
	}
	return wires
}

// scale is how much is measured: all of it, or what shows that the benchmark
// runs at all.
type scale struct {
	clients      []int
	each         time.Duration // of one operation in one round
	rounds       int
	stock        int // KeyPackages of each person
	objects      []int
	pairs        int // transactions on each of the stores that are compared
	users, polls int
}

func full() scale {
	s := scale{
		clients: []int{1, 16, 128}, each: 2 * time.Second, rounds: 3, stock: 200,
		objects: []int{1_000, 1_000_000}, pairs: 1_000, users: 10_000, polls: 2_000,
	}
	if n, err := strconv.Atoi(os.Getenv("BENCH_KEYSERVER_CLIENTS")); err == nil { // one number in place of three
		s.clients = []int{n}
	}
	if d, err := time.ParseDuration(os.Getenv("BENCH_KEYSERVER_EACH")); err == nil {
		s.each = d
	}
	return s
}

func short() scale {
	return scale{
		clients: []int{1, 4}, each: 50 * time.Millisecond, rounds: 1, stock: 60,
		objects: []int{100, 2_000}, pairs: 20, users: 50, polls: 20,
	}
}

func chosen() scale {
	if testing.Short() {
		return short()
	}
	return full()
}
