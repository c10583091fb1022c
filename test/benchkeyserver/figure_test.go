package benchkeyserver

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// figure is one line. Zero ref or target: there is none.
type figure struct {
	name, parameters string
	ours, ref        float64
	unit             string
	target           float64
	least            bool // ours should be at least target times ref, not at most
}

func (f figure) String() string {
	ref, ratio, target, verdict := "none", "none", "none", "ok"
	if f.ref > 0 {
		ref, ratio = number(f.ref)+f.unit, fmt.Sprintf("%.2f", f.ours/f.ref)
	}
	if f.target > 0 {
		target = fmt.Sprintf("%.2f", f.target)
		if bound := f.target * f.ref; f.least && f.ours < bound || !f.least && f.ours > bound {
			verdict = "short"
		}
	}
	return fmt.Sprintf("%s %s ours=%s%s ref=%s ratio=%s target=%s %s", f.name, f.parameters, number(f.ours), f.unit, ref, ratio, target, verdict)
}

func (f figure) print() { fmt.Fprintln(os.Stdout, f) }

func number(x float64) string {
	if x >= 100 {
		return fmt.Sprintf("%.0f", x)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0")
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// progress is for people; the figures are on standard output.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "# "+format+"\n", args...) }

// TestFigure: what is short is called so, in both directions.
func TestFigure(t *testing.T) {
	for _, c := range []struct {
		figure
		want string
	}{
		{figure{"x", "n=1", 60, 100, "/s", 0.6, true}, "x n=1 ours=60/s ref=100/s ratio=0.60 target=0.60 ok"},
		{figure{"x", "n=1", 59.9, 100, "/s", 0.6, true}, "x n=1 ours=59.9/s ref=100/s ratio=0.60 target=0.60 short"},
		{figure{"x", "n=1", 1.3, 1, "ms", 1.3, false}, "x n=1 ours=1.3ms ref=1ms ratio=1.30 target=1.30 ok"},
		{figure{"x", "n=1", 1.4, 1, "ms", 1.3, false}, "x n=1 ours=1.4ms ref=1ms ratio=1.40 target=1.30 short"},
		{figure{"x", "n=1", 12345, 0, "B", 0, false}, "x n=1 ours=12345B ref=none ratio=none target=none ok"},
		{figure{"x", "n=1", 5, 10, "ms", 0, false}, "x n=1 ours=5ms ref=10ms ratio=0.50 target=none ok"},
	} {
		if got := c.String(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
