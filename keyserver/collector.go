package keyserver

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// GarbageRoom is what LessCollecting suits a server with.
const GarbageRoom = 64 << 20

// LessCollecting has the garbage collector of this process wait until there are
// room octets of garbage, where it would run earlier. A key server lives in a
// few megabytes, so that by itself Go collects a hundred times a second under
// load, which is a fifth of the processor time; that all stacks are looked at
// each time does not depend on how much there is to collect. From room octets of
// living memory on nothing is different.
//
// It is for a program's main function. Where GOGC is set the operator has
// decided, and nothing happens; GOMEMLIMIT holds either way. stop gives the
// process its former setting back.
func LessCollecting(room int64) (stop func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	c := &collector{room: room, percent: debug.SetGCPercent(100)}
	c.former = c.percent
	c.adjust()
	return c.stop
}

// collector changes the setting after each collection. It is safe for
// concurrent use.
type collector struct {
	room   int64
	former int

	mu      sync.Mutex
	percent int
	stopped bool
}

// collected is unreachable from the beginning; its end tells that a collection
// took place. It has a pointer, or it would share its memory with other things.
type collected struct{ _ *byte }

func (c *collector) adjust() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	if p := percentFor(c.room, living()); p != c.percent {
		c.percent = p
		debug.SetGCPercent(p)
	}
	runtime.AddCleanup(&collected{}, func(c *collector) { c.adjust() }, c)
}

func (c *collector) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.stopped = true
		debug.SetGCPercent(c.former)
	}
}

// percentFor is the percentage of living memory that may be garbage, in steps of
// 50: each change stops the world for a moment.
func percentFor(room, living int64) int {
	return int(min(max(room*2/max(living, 1), 2), 200)) * 50
}

// living is what the last collection has kept, with the stacks, which the
// percentage is of as well.
func living() int64 {
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}, {Name: "/gc/scan/globals:bytes"}}
	metrics.Read(samples)
	var sum int64
	for _, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			sum += int64(s.Value.Uint64())
		}
	}
	return sum
}
