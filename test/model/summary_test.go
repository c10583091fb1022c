//go:build crashpoints && weakkdf

package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// tellEvery is how often a long run says how far it is.
const tellEvery = 5 * time.Second

// tell says how far the run is, now and then, and from which seed it can be
// continued.
func (b *bench) tell(seed, n, runs uint64) {
	if time.Since(b.told) < tellEvery {
		return
	}
	b.told = time.Now()
	b.t.Logf("%d of %d histories, next is MODEL_SEED=%d; %d failed %v; %.1f a second",
		n, runs, seed+n, len(b.failed), b.failed, float64(b.runs)/time.Since(b.began).Seconds())
}

// summary says what was played and what went wrong in it.
func (b *bench) summary(seed, runs uint64) {
	for _, k := range slices.Sorted(maps.Keys(b.counts)) {
		b.t.Logf("%-34s %7d, %.2f in a run", k, b.counts[k], float64(b.counts[k])/float64(b.runs))
	}
	operations, _ := b.sum(func(k string) bool { return steps[k] != nil })
	faults, kinds := b.sum(func(k string) bool { return slices.Contains(faultKinds, k) })
	crashes, points := b.sum(func(k string) bool { return strings.HasPrefix(k, crashed) })
	b.t.Logf("SUMMARY: %d histories, seeds %d to %d; %d operations; %d faults (%s); %d crashes at %d places; %d messages; %d failed %v; %.0f s",
		runs, seed, seed+runs-1, operations, faults, strings.Join(kinds, ", "), crashes, len(points), b.counts["messages"],
		len(b.failed), b.failed, time.Since(b.began).Seconds())
}

// sum adds up the counts of some kinds.
func (b *bench) sum(of func(kind string) bool) (n int, kinds []string) {
	for _, k := range slices.Sorted(maps.Keys(b.counts)) {
		if of(k) {
			n += b.counts[k]
			kinds = append(kinds, fmt.Sprintf("%s %d", k, b.counts[k]))
		}
	}
	return n, kinds
}
