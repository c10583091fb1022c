package keyserver

import (
	"net/netip"
	"sync"
	"time"
)

// maxBuckets bounds the memory of each throttle. When it is reached, full
// buckets go first, then any: an attacker with that many networks is not
// stopped by counting.
const maxBuckets = 100_000

// throttle is a set of token buckets, safe for concurrent use.
type throttle struct {
	rate Rate

	mu      sync.Mutex
	buckets map[string]bucket
}

// bucket holds the time at which it is full again; that is all it takes.
type bucket struct{ full time.Time }

func newThrottle(r Rate) *throttle { return &throttle{rate: r, buckets: map[string]bucket{}} }

// take takes one token, or tells how long to wait for the next one.
func (t *throttle) take(key string, now time.Time) (wait time.Duration, ok bool) {
	if t.rate.Burst < 0 {
		return 0, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	full := t.buckets[key].full
	if full.Before(now) {
		full = now
	}
	full = full.Add(t.rate.Every)
	if over := full.Sub(now) - time.Duration(t.rate.Burst)*t.rate.Every; over > 0 {
		return over, false
	}
	if _, known := t.buckets[key]; !known {
		t.makeRoom(now)
	}
	t.buckets[key] = bucket{full}
	return 0, true
}

func (t *throttle) makeRoom(now time.Time) {
	if len(t.buckets) < maxBuckets {
		return
	}
	for k, b := range t.buckets {
		if !b.full.After(now) {
			delete(t.buckets, k)
		}
	}
	for k := range t.buckets {
		if len(t.buckets) < maxBuckets {
			return
		}
		delete(t.buckets, k)
	}
}

// Guessing a password: some tries are free, then each failure doubles the wait.
const (
	freeTries   = 5
	firstWait   = 30 * time.Second
	longestWait = 15 * time.Minute
	forgetTries = time.Hour // after the last one
)

// guessGuard slows down guessing per user name. There is no lock-out: a device
// that is known to the user has a count of its own.
type guessGuard struct {
	mu    sync.Mutex
	tries map[string]tries
}

type tries struct {
	failed int
	last   time.Time
	next   time.Time
}

func newGuessGuard() *guessGuard { return &guessGuard{tries: map[string]tries{}} }

// begin counts a try as failed before it is made, so that parallel ones count;
// succeed takes it back.
func (g *guessGuard) begin(key string, now time.Time) (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.tries[key]
	if now.Sub(t.last) > forgetTries {
		t = tries{}
	}
	if now.Before(t.next) {
		return t.next.Sub(now), false
	}
	if len(g.tries) >= maxBuckets {
		for k, old := range g.tries {
			if now.Sub(old.last) > forgetTries || len(g.tries) >= maxBuckets {
				delete(g.tries, k)
			}
		}
	}
	t.failed++
	t.last = now
	if over := t.failed - freeTries; over >= 0 {
		t.next = now.Add(min(firstWait<<min(over, 10), longestWait))
	}
	g.tries[key] = t
	return 0, true
}

func (g *guessGuard) succeed(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.tries, key)
}

// networkOf is the prefix that a client is counted by.
func networkOf(ip netip.Addr) string {
	bits := 64
	if ip.Is4() {
		bits = 24
	}
	p, err := ip.Prefix(bits)
	if err != nil { // not an address: all such clients share a bucket
		return "unknown"
	}
	return p.String()
}
