package pgstore

import (
	"sync"
	"testing"
)

// What a request costs of the database does not grow unnoticed: round trips and
// statements of one that is by itself. One of fetch ends the view before it.
func TestRoundTrips(t *testing.T) {
	s := open(t, newOptions())
	all := parties(t, s, 2, 10)
	want := map[string][2]int64{"claim": {2, 7}, "tx": {2, 10}, "post": {2, 16}, "fetch": {2, 6}}
	for _, r := range requests {
		for n := range 3 { // the first one makes rows, and looks for what has ended
			trips, statements := s.trips.Load(), s.statements.Load()
			if err := r.do(all[0]); err != nil {
				t.Fatal(err)
			}
			got := [2]int64{s.trips.Load() - trips, s.statements.Load() - statements}
			if most := want[r.name]; n > 0 && (got[0] != most[0] || got[1] > most[1]) {
				t.Errorf("%s: %d round trips with %d statements, want %d", r.name, got[0], got[1], most)
			}
		}
	}
}

// Those who come while others are served share what it costs.
func TestRoundTripsAreShared(t *testing.T) {
	s := open(t, newOptions())
	const n, rounds = 60, 5
	all := parties(t, s, n, rounds)
	for _, r := range requests {
		trips := s.trips.Load()
		var wg sync.WaitGroup
		for _, p := range all {
			wg.Go(func() {
				for range rounds {
					if err := r.do(p); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := s.trips.Load() - trips; got > n*rounds {
			t.Errorf("%s: %d round trips for %d requests", r.name, got, n*rounds)
		}
	}
}
