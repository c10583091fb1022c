package keyserver

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/postgres"
)

// How long servers are killed in one round.
const (
	boltRound     = 8 * time.Second
	postgresRound = 12 * time.Second
)

// soak runs rounds for as long as CLOUDMLS_SOAK says, at least one.
func soak(t *testing.T, round func(t *testing.T, n int)) {
	t.Helper()
	var long time.Duration
	if v := os.Getenv("CLOUDMLS_SOAK"); v != "" {
		var err error
		if long, err = time.ParseDuration(v); err != nil {
			t.Fatalf("CLOUDMLS_SOAK: %v", err)
		}
	}
	for begin, n := time.Now(), 0; n == 0 || time.Since(begin) < long && !t.Failed(); n++ {
		round(t, n)
	}
}

// disturb keeps killing a server and starting it again until ctx ends. Between
// two kills it may do something else. All servers are up when it returns.
func (c *cluster) disturb(ctx context.Context, r *rand.Rand, between func()) (kills int) {
	for ctx.Err() == nil {
		pause(ctx, time.Duration(100+r.IntN(500))*time.Millisecond)
		if kills%5 == 4 && between != nil {
			between()
		}
		s := c.slots[r.IntN(len(c.slots))]
		c.kill(s)
		kills++
		pause(ctx, time.Duration(r.IntN(100))*time.Millisecond)
		if err := c.start(s); err != nil {
			c.t.Error(err)
			return kills
		}
	}
	return kills
}

func round(t *testing.T, c *cluster, n int, length time.Duration, between func()) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	l := newLoad(t, c, n)
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	done := make(chan int)
	go func() { done <- c.disturb(ctx, rand.New(rand.NewPCG(seed, 1)), between) }()
	l.run(ctx)
	kills := <-done
	if kills < 3 {
		t.Errorf("only %d kills", kills)
	}
	// What was acknowledged last is still to be seen.
	r := rand.New(rand.NewPCG(seed, 2))
	l.stop = t.Context()
	for i, p := range l.people {
		l.read("inbox "+string(rune('0'+i)), p, 900, r)
	}
	t.Logf("%d kills", kills)
	l.h.check(t, l.models)
}

// TestThreat26_Bolt: one process on one file.
func TestThreat26_Bolt(t *testing.T) {
	c := newCluster(t, 1, envFile+"="+filepath.Join(t.TempDir(), "keyserver.db"))
	soak(t, func(t *testing.T, n int) { round(t, c, n, boltRound, nil) })
}

// TestThreat26_Postgres: three processes on one database, which is crashed and
// restarted as well.
func TestThreat26_Postgres(t *testing.T) {
	db, err := postgres.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Stop(); err != nil {
			t.Error(err)
		}
	})
	dsn, err := db.NewDatabase()
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, 3, envDSN+"="+dsn)
	crash := true
	soak(t, func(t *testing.T, n int) {
		round(t, c, n, postgresRound, func() {
			stop := db.Down
			if crash {
				stop = db.Crash
			}
			crash = !crash
			if err := stop(); err != nil {
				t.Error(err)
			}
			if err := db.Up(); err != nil {
				t.Error(err)
			}
		})
	})
}
