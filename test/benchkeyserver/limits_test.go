package benchkeyserver

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/benchkeyserver/process"
	"github.com/cloudmls/gateway/test/postgres"
)

// BenchmarkLimits: who has the processors while two server processes answer on
// one database. Where they are all taken, a second process has nothing to add.
func BenchmarkLimits(b *testing.B) { limits(b, chosen()) }

// TestShortLimits: it runs at all.
func TestShortLimits(t *testing.T) { limits(t, short()) }

// spent is processor time, by who spent it.
type spent struct{ clients, servers, database time.Duration }

func (s spent) less(o spent) spent {
	return spent{s.clients - o.clients, s.servers - o.servers, s.database - o.database}
}

func (s spent) total() time.Duration { return s.clients + s.servers + s.database }

func spentBy(b testing.TB, pg *postgres.Server, servers ...*process.Process) (s spent) {
	b.Helper()
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		b.Fatal(err)
	}
	s.clients = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	for _, p := range servers {
		s.servers += cpuOf(b, p)
	}
	var err error
	if s.database, err = pg.CPU(); err != nil {
		b.Fatal(err)
	}
	return s
}

func limits(b testing.TB, s scale) {
	pg, err := postgres.Start()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			b.Error(err)
		}
	})
	dsn, err := pg.NewDatabase()
	if err != nil {
		b.Fatal(err)
	}
	c := config(process.Config{DSN: dsn, MaxConns: connections()})
	clients := s.clients[len(s.clients)-1]
	people := prepare(b, c, clients, 0)
	one, two := start(b, c), start(b, c)
	first, second := dialMany(b, one.Address, clients), dialMany(b, two.Address, clients)
	for _, servers := range [][]*process.Process{{one}, {one, two}} {
		before := spentBy(b, pg, servers...)
		l, err := run(clients, time.Duration(s.rounds)*s.each, 1<<30, func(i int) error {
			if len(servers) == 2 && i%2 == 1 {
				return people[i].put(second[i])
			}
			return people[i].put(first[i])
		})
		if err != nil {
			b.Fatal(err)
		}
		use := spentBy(b, pg, servers...).less(before)
		busy := func(d time.Duration) float64 { return 100 * d.Seconds() / l.total.Seconds() }
		each := func(d time.Duration) int64 { return d.Microseconds() / int64(len(l.took)) }
		parameters := fmt.Sprintf("processes=%d,clients=%d,servers-us=%d,database-us=%d,clients-us=%d,rate=%.0f",
			len(servers), clients, each(use.servers), each(use.database), each(use.clients), l.rate())
		figure{"processors-busy-tx", parameters, busy(use.total()), float64(100 * runtime.NumCPU()), "%", 0, false}.print()
	}
}
