package benchkeyserver

import (
	"slices"
	"sync"
	"time"
)

// load is what a number of clients did, each one thing after another.
type load struct {
	took  []time.Duration
	total time.Duration
}

func (l *load) add(o load) { l.took, l.total = append(l.took, o.took...), l.total+o.total }

func (l *load) rate() float64 { return float64(len(l.took)) / l.total.Seconds() }

// quantile sorts.
func (l *load) quantile(q float64) time.Duration {
	slices.Sort(l.took)
	return l.took[min(int(q*float64(len(l.took))), len(l.took)-1)]
}

// run has the clients work for a while, or until each has done most things.
func run(clients int, d time.Duration, most int, do func(client int) error) (load, error) {
	all := make([][]time.Duration, clients)
	errs := make([]error, clients)
	var wg sync.WaitGroup
	begin := time.Now()
	for c := range clients {
		wg.Go(func() {
			for len(all[c]) < most {
				now := time.Now()
				if now.Sub(begin) > d && len(all[c]) > 0 {
					return
				}
				if errs[c] = do(c); errs[c] != nil {
					return
				}
				all[c] = append(all[c], time.Since(now))
			}
		})
	}
	wg.Wait()
	l := load{total: time.Since(begin)}
	for c := range clients {
		if errs[c] != nil {
			return l, errs[c]
		}
		l.took = append(l.took, all[c]...)
	}
	return l, nil
}
