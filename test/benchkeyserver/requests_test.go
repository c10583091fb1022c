package benchkeyserver

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cloudmls/gateway/test/benchkeyserver/process"
)

// atLeast is the part of the bare rate that is due with the most clients.
const atLeast = 0.6

// operation is one kind of request.
type operation struct {
	name string
	do   func(client int) error
	load load
	cpu  time.Duration // of the server
}

// BenchmarkRequests: rates and times by the number of clients, beside those of
// bare transactions.
func BenchmarkRequests(b *testing.B) { requests(b, chosen()) }

func requests(b testing.TB, s scale) {
	for _, k := range stores(b) {
		c := k.config(b)
		people := prepare(b, c, s.clients[len(s.clients)-1], s.stock)
		server := start(b, c)
		for _, clients := range s.clients {
			requestsOf(b, s, k, c, server, people, clients)
		}
	}
}

// profile writes a CPU profile of a server while it answers one kind of request
// of the most clients, if BENCH_KEYSERVER_PROFILE_OF says so: "file tx". The file
// is BENCH_KEYSERVER_PROFILE, and that of the last round.
func profile(b testing.TB, k kind, server *process.Process, operation string, most bool) (stop func()) {
	b.Helper()
	if !most || os.Getenv("BENCH_KEYSERVER_PROFILE_OF") != k.name+" "+operation {
		return func() {}
	}
	if err := server.StartProfile(); err != nil {
		b.Fatal(err)
	}
	return func() {
		if err := server.StopProfile(); err != nil {
			b.Fatal(err)
		}
	}
}

// cpuOf is the time that a server has spent on the processors.
func cpuOf(b testing.TB, p *process.Process) time.Duration {
	b.Helper()
	m, err := p.Peak()
	if err != nil {
		b.Fatal(err)
	}
	return m.CPU
}

func requestsOf(b testing.TB, s scale, k kind, c process.Config, server *process.Process, people []*person, clients int) {
	progress("requests: %s, %d clients", k.name, clients)
	wires := dialMany(b, server.Address, clients)
	claims := make([]int, clients)
	ops := []*operation{
		{name: "bare", do: k.bare(b, c, clients)},
		{name: "claim", do: func(i int) error {
			claims[i]++
			return people[i].claim(wires[i], people[(i+claims[i]*clients)%len(people)])
		}},
		{name: "tx", do: func(i int) error { return people[i].put(wires[i]) }},
		{name: "post", do: func(i int) error { return people[i].post(wires[i]) }},
		{name: "fetch", do: func(i int) error { return people[(i+1)%len(people)].fetch(wires[i]) }},
	}
	most := len(people) * s.stock / len(s.clients) / s.rounds / clients // no client may find a pool empty
	for range s.rounds {
		for _, o := range ops {
			stop := profile(b, k, server, o.name, clients == s.clients[len(s.clients)-1])
			before := cpuOf(b, server)
			limit := 1 << 30
			if o.name == "claim" {
				limit = most
			}
			l, err := run(clients, s.each, limit, o.do)
			if err != nil {
				b.Fatalf("%s %s: %v", k.name, o.name, err)
			}
			stop()
			o.load.add(l)
			o.cpu += cpuOf(b, server) - before
		}
	}
	bare := &ops[0].load
	for _, o := range ops[1:] {
		parameters := fmt.Sprintf("store=%s,clients=%d", k.name, clients)
		rate := figure{o.name + "-rate", parameters, o.load.rate(), bare.rate(), "/s", 0, true}
		if clients == s.clients[len(s.clients)-1] {
			rate.target = atLeast
		}
		rate.print()
		figure{o.name + "-p50", parameters, ms(o.load.quantile(0.5)), ms(bare.quantile(0.5)), "ms", 0, false}.print()
		figure{o.name + "-p99", parameters, ms(o.load.quantile(0.99)), ms(bare.quantile(0.99)), "ms", 0, false}.print()
		cpu := float64(o.cpu.Microseconds()) / float64(len(o.load.took))
		figure{o.name + "-cpu-of-server", parameters, cpu, 0, "us", 0, false}.print()
	}
}
