package keyserver

import (
	"net/netip"
	"sync"
	"time"
)

// maxBuckets bounds the memory of each throttle. When it is reached, those that
// were not used for longest go: an attacker with that many networks is not
// stopped by counting.
const maxBuckets = 100_000

// throttle is a set of token buckets, safe for concurrent use.
type throttle struct {
	rate Rate

	mu      sync.Mutex
	buckets recent[string, bucket]
}

// bucket holds the time at which it is full again; that is all it takes.
type bucket struct{ full time.Time }

func newThrottle(r Rate) *throttle {
	return &throttle{rate: r, buckets: newRecent[string, bucket](maxBuckets)}
}

// take takes one token, or tells how long to wait for the next one.
func (t *throttle) take(key string, now time.Time) (wait time.Duration, ok bool) {
	if t.rate.Burst < 0 {
		return 0, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	have, _ := t.buckets.get(key)
	full := have.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(t.rate.Every)
	if over := full.Sub(now) - time.Duration(t.rate.Burst)*t.rate.Every; over > 0 {
		t.buckets.put(key, have) // whoever asks is not forgotten
		return over, false
	}
	t.buckets.put(key, bucket{full})
	return 0, true
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
	tries recent[string, tries]
}

type tries struct {
	failed int
	last   time.Time
	next   time.Time
}

func newGuessGuard() *guessGuard { return &guessGuard{tries: newRecent[string, tries](maxBuckets)} }

// begin counts a try as failed before it is made, so that parallel ones count;
// succeed takes it back.
func (g *guessGuard) begin(key string, now time.Time) (wait time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t, _ := g.tries.get(key)
	if now.Sub(t.last) > forgetTries {
		t = tries{}
	}
	if now.Before(t.next) {
		return t.next.Sub(now), false
	}
	t.failed++
	t.last = now
	if over := t.failed - freeTries; over >= 0 {
		t.next = now.Add(min(firstWait<<min(over, 10), longestWait))
	}
	g.tries.put(key, t)
	return 0, true
}

func (g *guessGuard) succeed(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tries.remove(key)
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
