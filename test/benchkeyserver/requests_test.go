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

// operation is one kind of request, and what was measured of it.
type operation struct {
	name     string
	do       func(client int, people []*person, wires []*wire) error
	of       measured
	exchange measured // of the same requests, where nothing is done about them
}

// measured is what clients did, and what it took of the server.
type measured struct {
	load
	cpu time.Duration
}

func (m *measured) cpuOfOne() float64 { return float64(m.cpu.Microseconds()) / float64(len(m.took)) }

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

// side is a server, the people who know it, and a connection for each client.
type side struct {
	server *process.Process
	people []*person
	wires  []*wire
}

// newExchange is a server without work, with people who think that they talk to
// the key server.
func newExchange(b testing.TB, people []*person, clients int) *side {
	server := start(b, process.Config{Exchange: true})
	shadows := make([]*person, len(people))
	for i, p := range people {
		own := *p
		shadows[i] = &own
	}
	for i := range shadows {
		shadows[i].next = shadows[(i+1)%len(shadows)]
	}
	return &side{server, shadows, dialMany(b, server.Address, clients)}
}

// measure has clients ask one thing for a while, each at most a number of times.
func (s *side) measure(b testing.TB, o *operation, m *measured, clients int, each time.Duration, most int) {
	b.Helper()
	before := cpuOf(b, s.server)
	l, err := run(clients, each, most, func(i int) error { return o.do(i, s.people, s.wires) })
	if err != nil {
		b.Fatalf("%s: %v", o.name, err)
	}
	m.add(l)
	m.cpu += cpuOf(b, s.server) - before
}

func operations(clients int) []*operation {
	claims := make([]int, clients)
	return []*operation{
		{name: "claim", do: func(i int, people []*person, wires []*wire) error {
			claims[i]++
			return people[i].claim(wires[i], people[(i+claims[i]*clients)%len(people)])
		}},
		{name: "tx", do: func(i int, people []*person, wires []*wire) error { return people[i].put(wires[i]) }},
		{name: "post", do: func(i int, people []*person, wires []*wire) error { return people[i].post(wires[i]) }},
		{name: "fetch", do: func(i int, people []*person, wires []*wire) error {
			return people[(i+1)%len(people)].fetch(wires[i])
		}},
	}
}

func requestsOf(b testing.TB, s scale, k kind, c process.Config, server *process.Process, people []*person, clients int) {
	progress("requests: %s, %d clients", k.name, clients)
	ours := &side{server, people, dialMany(b, server.Address, clients)}
	nothing := newExchange(b, people, clients)
	ops := operations(clients)
	once := k.bare(b, c, clients)
	var bare load
	claims := len(people) * s.stock / len(s.clients) / s.rounds / clients // no client may find a pool empty
	for range s.rounds {
		l, err := run(clients, s.each, 1<<30, once)
		if err != nil {
			b.Fatalf("%s, bare: %v", k.name, err)
		}
		bare.add(l)
		for _, o := range ops {
			most := 1 << 30
			if o.name == "claim" {
				most = claims
			}
			stop := profile(b, k, server, o.name, clients == s.clients[len(s.clients)-1])
			ours.measure(b, o, &o.of, clients, s.each, most)
			stop()
			if err := nothing.server.Answer(ours.wires[0].got); err != nil {
				b.Fatal(err)
			}
			nothing.measure(b, o, &o.exchange, clients, s.each, most)
		}
	}
	for _, o := range ops {
		o.print(fmt.Sprintf("store=%s,clients=%d", k.name, clients), &bare, clients == s.clients[len(s.clients)-1])
	}
}

// print gives the figures of an operation, with targets where there are most
// clients. The rate is put beside that of the store alone, and beside the lower
// one of the store and of HTTP alone.
func (o *operation) print(parameters string, bare *load, most bool) {
	target := 0.0
	if most {
		target = atLeast
	}
	figure{o.name + "-rate", parameters, o.of.rate(), bare.rate(), "/s", target, true}.print()
	figure{o.name + "-rate-beside-exchange", parameters, o.of.rate(), min(bare.rate(), o.exchange.rate()), "/s", target, true}.print()
	figure{o.name + "-exchange-rate", parameters, o.exchange.rate(), bare.rate(), "/s", 0, true}.print()
	figure{o.name + "-p50", parameters, ms(o.of.quantile(0.5)), ms(bare.quantile(0.5)), "ms", 0, false}.print()
	figure{o.name + "-p99", parameters, ms(o.of.quantile(0.99)), ms(bare.quantile(0.99)), "ms", 0, false}.print()
	figure{o.name + "-cpu-of-server", parameters, o.of.cpuOfOne(), o.exchange.cpuOfOne(), "us", 0, false}.print()
}
