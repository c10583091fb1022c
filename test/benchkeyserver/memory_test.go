package benchkeyserver

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/test/benchkeyserver/process"
)

// pollBound is what an idle long-poll may cost, in octets.
const pollBound = 20 << 10

// BenchmarkMemory: of users who were there once, and of long-polls.
func BenchmarkMemory(b *testing.B) { memory(b, chosen()) }

func memory(b testing.TB, s scale) {
	for _, k := range stores(b) {
		c := k.config(b)
		defaults := keyserver.DefaultLimits()
		c.Limits.Writes, c.Limits.LookUps, c.Limits.Claims = defaults.Writes, defaults.LookUps, defaults.Claims // which count each user
		server := start(b, c)
		registerMany(b, "http://"+server.Address, "before", 50) // what is made once and for all
		before, err := server.Memory()
		if err != nil {
			b.Fatal(err)
		}
		progress("memory: %s, %d users", k.name, s.users)
		people := registerMany(b, "http://"+server.Address, "user", s.users)
		w := dialMany(b, server.Address, 1)[0]
		for _, p := range people {
			if err := p.put(w); err != nil {
				b.Fatal(err)
			}
		}
		after, err := server.Memory()
		if err != nil {
			b.Fatal(err)
		}
		parameters := fmt.Sprintf("store=%s,users=%d", k.name, s.users)
		figure{"memory-of-users", parameters, float64(after.Total()-before.Total()) / 1024, 0, "KiB", 0, false}.print()
		figure{"memory-of-process", parameters, float64(after.Sys) / 1024, 0, "KiB", 0, false}.print()
		polls(b, s, k, server, people)
	}
}

// polls opens long-polls of people who wait, and as many where nothing but
// net/http waits.
func polls(b testing.TB, s scale, k kind, server *process.Process, people []*person) {
	progress("memory: %s, %d long-polls", k.name, s.polls)
	ours := memoryOfPolls(b, s.polls, server, people)
	nothing := memoryOfPolls(b, s.polls, start(b, process.Config{Exchange: true}), people)
	parameters := fmt.Sprintf("store=%s,waiting=%d", k.name, s.polls)
	figure{"memory-of-long-poll", parameters, ours, pollBound, "B", 1, false}.print()
	figure{"memory-of-long-poll-beside-exchange", parameters, ours, nothing, "B", 0, false}.print()
}

// memoryOfPolls is what each of n long-polls takes.
func memoryOfPolls(b testing.TB, n int, server *process.Process, people []*person) float64 {
	b.Helper()
	measure := func() process.Memory {
		m, err := server.Memory()
		if err != nil {
			b.Fatal(err)
		}
		return m
	}
	before := measure()
	wires := dialMany(b, server.Address, n)
	for i, w := range wires {
		p := people[i%len(people)]
		if err := w.send("GET", "/v1/delivery/email/"+p.account.ID+"?wait=60", p.token, nil); err != nil {
			b.Fatal(err)
		}
	}
	for measure().Goroutines < before.Goroutines+2*n { // each has one that serves and one that looks whether the client is there
		time.Sleep(200 * time.Millisecond)
	}
	var after process.Memory
	for range 3 { // a stack that has become too large shrinks by half in each collection
		after = measure()
	}
	progress("of each %d octets heap, %d stacks", (after.Heap-before.Heap)/int64(n), (after.Stack-before.Stack)/int64(n))
	return float64(after.Total()-before.Total()) / float64(n)
}
