// Package benchstate measures what the cloud state of the SDK costs: octets of
// request and answer bodies, round trips, and time. 'make bench-state' prints one
// line a figure:
//
//	<name> <parameters> ours=… ref=… ratio=… target=… ok|short
//
// ours and ref are in octets where they end in B, in microseconds where in us,
// in requests where in no unit; ref is what target is a multiple of. A figure
// that falls short fails nothing: docs/performance-state.md says why it does.
package benchstate

import (
	"fmt"
	"os"
	"strings"
)

// line prints one figure. ours may be target times ref.
func line(name, parameters string, ours, ref float64, unit string, target float64) {
	fmt.Fprintln(os.Stdout, figure(name, parameters, ours, ref, unit, target))
}

func figure(name, parameters string, ours, ref float64, unit string, target float64) string {
	verdict := "ok"
	if ours > target*ref {
		verdict = "short"
	}
	ratio := "0.00"
	switch {
	case ref > 0:
		ratio = fmt.Sprintf("%.2f", ours/ref)
	case ours > 0:
		ratio = "inf"
	}
	return fmt.Sprintf("%s %s ours=%s%s ref=%s%s ratio=%s target=%.2f %s",
		name, parameters, number(ours), unit, number(ref), unit, ratio, target, verdict)
}

func number(x float64) string {
	if x >= 1000 {
		return fmt.Sprintf("%.0f", x)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0")
}
