package mls

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// measure returns the least processor time of one call of f over some rounds;
// setup, if not nil, makes what each call uses up and is not counted. Long
// calls are repeated less often: about 0.2 seconds are spent in all, if one
// call is not longer.
func measure(b *testing.B, setup func(calls int), f func(i int) error) time.Duration {
	b.Helper()
	const rounds = 4
	const budget = 50 * time.Millisecond // of a round
	calls := 1
	best := time.Duration(0)
	for round := 0; round < rounds; round++ {
		if setup != nil {
			setup(calls)
		}
		if round == 0 {
			runtime.GC() // what came before is not charged to f
		}
		start := processorTime()
		for i := range calls {
			if err := f(i); err != nil {
				b.Fatal(err)
			}
		}
		spent := processorTime() - start
		if each := spent / time.Duration(calls); round == 0 || each < best {
			best = each
		}
		if calls == 1 && spent < budget/2 { // the first round only calibrates
			calls = int(min(budget/max(spent, time.Microsecond), 2000))
			best, round = 1<<62, 0
		}
		if spent > 2*time.Second && round >= 1 {
			break
		}
	}
	return best
}

// allocated returns what one call of f allocates.
func allocated(b *testing.B, f func() error) (bytes, objects uint64) {
	b.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := f(); err != nil {
		b.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc, after.Mallocs - before.Mallocs
}

// figure prints one line of make bench-mls. target 0 means that there is none.
func figure(name, parameters string, ours, ref time.Duration, target float64) {
	ratio := float64(ours) / float64(ref)
	fmt.Printf("%s %s ours=%s ref=%s ratio=%.2f target=%s %s\n",
		name, parameters, short(ours), short(ref), ratio, targetText(target), verdict(ratio, target))
}

// size prints one line about bytes or objects.
func size(name, parameters, unit string, ours, ref uint64, target float64) {
	ratio := float64(ours) / float64(ref)
	fmt.Printf("%s %s ours=%d%s ref=%d%s ratio=%.2f target=%s %s\n",
		name, parameters, ours, unit, ref, unit, ratio, targetText(target), verdict(ratio, target))
}

func targetText(target float64) string {
	if target == 0 {
		return "none"
	}
	return fmt.Sprintf("%.2f", target)
}

func verdict(ratio, target float64) string {
	if target != 0 && ratio > target {
		return "short"
	}
	return "ok"
}

// short formats a duration with three digits.
func short(d time.Duration) string {
	us := float64(d) / float64(time.Microsecond)
	switch {
	case us < 1000:
		return fmt.Sprintf("%.3gµs", us)
	case us < 1e6:
		return fmt.Sprintf("%.3gms", us/1e3)
	default:
		return fmt.Sprintf("%.3gs", us/1e6)
	}
}
