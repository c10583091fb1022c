package benchkeyserver

import (
	"fmt"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
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
		polls(b, s, k, server.Address, people, func() (int64, int) {
			m, err := server.Memory()
			if err != nil {
				b.Fatal(err)
			}
			return m.Total(), m.Goroutines
		})
	}
}

// polls opens long-polls of people who wait.
func polls(b testing.TB, s scale, k kind, address string, people []*person, measure func() (octets int64, goroutines int)) {
	progress("memory: %s, %d long-polls", k.name, s.polls)
	before, idle := measure()
	wires := dialMany(b, address, s.polls)
	for i, w := range wires {
		p := people[i%len(people)]
		if err := w.send("GET", "/v1/delivery/email/"+p.account.ID+"?wait=60", p.token, nil); err != nil {
			b.Fatal(err)
		}
	}
	var after int64
	for {
		octets, goroutines := measure()
		if goroutines >= idle+2*s.polls { // each has one that serves and one that looks whether the client is there
			after = octets
			for range 3 { // a stack that has become too large shrinks by half in each collection
				after, _ = measure()
			}
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	each := float64(after-before) / float64(s.polls)
	figure{"memory-of-long-poll", fmt.Sprintf("store=%s,waiting=%d", k.name, s.polls), each, pollBound, "B", 1, false}.print()
}
