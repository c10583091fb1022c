package benchkeyserver

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// twice is what two processes on one database should do more than one.
const twice = 1.5

// BenchmarkProcesses: two server processes on one database beside one.
func BenchmarkProcesses(b *testing.B) { processes(b, chosen()) }

func processes(b testing.TB, s scale) {
	k := postgresql(b)
	c := k.config(b)
	clients := s.clients[len(s.clients)-1]
	people := prepare(b, c, clients, 0)
	one, two := start(b, c), start(b, c)
	first, second := dialMany(b, one.Address, clients), dialMany(b, two.Address, clients)
	var alone, both load
	var servers time.Duration
	for range s.rounds {
		l, err := run(clients, s.each, 1<<30, func(i int) error { return people[i].put(first[i]) })
		if err != nil {
			b.Fatal(err)
		}
		alone.add(l)
		before := cpuOf(b, one) + cpuOf(b, two)
		l, err = run(clients, s.each, 1<<30, func(i int) error {
			if i%2 == 0 {
				return people[i].put(first[i])
			}
			return people[i].put(second[i])
		})
		if err != nil {
			b.Fatal(err)
		}
		both.add(l)
		servers += cpuOf(b, one) + cpuOf(b, two) - before
	}
	parameters := fmt.Sprintf("store=postgresql,clients=%d,processors=%d", clients, runtime.NumCPU())
	figure{"two-processes-tx-rate", parameters, both.rate(), alone.rate(), "/s", twice, true}.print()
	figure{"two-processes-busy", parameters, 100 * servers.Seconds() / both.total.Seconds(), 0, "%", 0, false}.print()
}
