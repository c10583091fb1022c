package benchstate

import "testing"

// TestFigure: what is short is called so, zero is measured against zero.
func TestFigure(t *testing.T) {
	for _, c := range []struct {
		ours, ref, target float64
		want              string
	}{
		{64, 64, 1, "x n=1 ours=64B ref=64B ratio=1.00 target=1.00 ok"},
		{64.5, 64, 1, "x n=1 ours=64.5B ref=64B ratio=1.01 target=1.00 short"},
		{0, 0, 1, "x n=1 ours=0B ref=0B ratio=0.00 target=1.00 ok"},
		{1, 0, 1, "x n=1 ours=1B ref=0B ratio=inf target=1.00 short"},
		{120000, 100000, 1.3, "x n=1 ours=120000B ref=100000B ratio=1.20 target=1.30 ok"},
	} {
		if got := figure("x", "n=1", c.ours, c.ref, "B", c.target); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}
