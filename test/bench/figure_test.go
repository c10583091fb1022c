package bench

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"
)

// rounds is how often each side is measured; the first pair is not counted.
const rounds = 9

// pairs measures two functions in turn and returns their medians and the median
// of the ratios.
func pairs(n int, ours, ref func() time.Duration) (a, b time.Duration, ratio float64) {
	var as, bs []time.Duration
	var ratios []float64
	for i := range n + 1 {
		x, y := ours(), ref()
		if i == 0 {
			continue
		}
		as, bs, ratios = append(as, x), append(bs, y), append(ratios, x.Seconds()/y.Seconds())
	}
	slices.Sort(as)
	slices.Sort(bs)
	slices.Sort(ratios)
	return as[n/2], bs[n/2], ratios[n/2]
}

// timed measures one call.
func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}

// compare measures and prints one figure: ours may take target times what ref
// takes.
func compare(name, parameters string, target float64, ours, ref func()) {
	a, b, ratio := pairs(rounds, func() time.Duration { return timed(ours) }, func() time.Duration { return timed(ref) })
	line(name, parameters, ms(a), ms(b), ratio, target)
}

// line prints one figure. ratio and target are larger is worse.
func line(name, parameters, ours, ref string, ratio, target float64) {
	verdict := "ok"
	if ratio > target {
		verdict = "short"
	}
	fmt.Fprintf(os.Stdout, "%s %s ours=%s ref=%s ratio=%.2f target=%.2f %s\n", name, parameters, ours, ref, ratio, target, verdict)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.2fms", float64(d.Microseconds())/1000) }

// TestPairs: the figures are medians of what was measured, the first pair aside.
func TestPairs(t *testing.T) {
	ours := []time.Duration{90, 2, 4, 6}
	ref := []time.Duration{1, 1, 4, 2}
	next := func(s *[]time.Duration) func() time.Duration {
		return func() time.Duration {
			d := (*s)[0] * time.Second
			*s = (*s)[1:]
			return d
		}
	}
	a, b, ratio := pairs(3, next(&ours), next(&ref))
	if a != 4*time.Second || b != 2*time.Second || ratio != 2 {
		t.Errorf("got %v, %v, %v, want 4s, 2s, 2", a, b, ratio)
	}
}
