package keyserver

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestPercentFor(t *testing.T) {
	for _, c := range []struct {
		room, living int64
		want         int
	}{
		{64 << 20, 0, 10_000}, {64 << 20, 1 << 20, 6_400}, {64 << 20, 8 << 20, 800}, {64 << 20, 60 << 20, 100}, {64 << 20, 1 << 30, 100}, {0, 1 << 20, 100},
	} {
		if got := percentFor(c.room, c.living); got != c.want {
			t.Errorf("%d beside %d: %d %%, want %d", c.room, c.living, got, c.want)
		}
	}
}

// What lives grows: the setting follows. Afterwards the process has its own.
func TestLessCollecting(t *testing.T) {
	t.Setenv("GOGC", "")
	percent := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	before := percent()
	stop := LessCollecting(GarbageRoom)
	first := percent()
	if first < 150 {
		t.Errorf("set to %d %% where some megabytes live", first)
	}
	kept := make([]byte, 2*GarbageRoom)
	for percent() != 100 { // until the test's own time is over
		runtime.GC()
		runtime.Gosched()
	}
	stop()
	runtime.KeepAlive(kept)
	if now := percent(); now != before {
		t.Errorf("left at %d %%, was %d", now, before)
	}
	runtime.GC()
	if now := percent(); now != before {
		t.Errorf("changed to %d %% afterwards, was %d", now, before)
	}
}

// Where the operator has set GOGC that counts.
func TestLessCollectingLeavesTheOperatorsSetting(t *testing.T) {
	t.Setenv("GOGC", "70")
	before := debug.SetGCPercent(70)
	defer debug.SetGCPercent(before)
	LessCollecting(GarbageRoom)()
	if now := debug.SetGCPercent(before); now != 70 {
		t.Errorf("changed to %d %%", now)
	}
}
