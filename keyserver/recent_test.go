package keyserver

import (
	"strconv"
	"testing"
	"time"
)

// TestRecent: bounded, and what is put again and again stays.
func TestRecent(t *testing.T) {
	r := newRecent[int, int](100)
	for i := range 10_000 {
		r.put(-1, i)
		r.put(i, i)
		if v, ok := r.get(i); !ok || v != i {
			t.Fatalf("%d is %d, %v", i, v, ok)
		}
		if v, ok := r.get(-1); !ok || v != i {
			t.Fatalf("after %d others what is in use is %d, %v", i, v, ok)
		}
		if n := len(r.young) + len(r.old); n > 100 {
			t.Fatalf("%d entries", n)
		}
	}
	if _, ok := r.get(5_000); ok {
		t.Error("what was put long ago is there")
	}
	r.put(7, 1)
	r.remove(7)
	if _, ok := r.get(7); ok {
		t.Error("removed, and there")
	}
}

// TestThrottleKeepsTheBusy: an attacker with any number of networks does not
// get the bucket of the one network that is over its rate thrown away while that
// one asks.
func TestThrottleKeepsTheBusy(t *testing.T) {
	h := newThrottle(Rate{Burst: 1, Every: time.Hour})
	now := time.Unix(1_700_000_000, 0)
	if _, ok := h.take("busy", now); !ok {
		t.Fatal("the first one was refused")
	}
	for i := range 3 * maxBuckets {
		h.take(strconv.Itoa(i), now)
		if i%1000 != 0 {
			continue
		}
		if _, ok := h.take("busy", now); ok {
			t.Fatalf("let through after %d others", i)
		}
	}
}
