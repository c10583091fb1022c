package evil

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Match chooses exchanges. It is asked before the request is let through.
type Match func(*Exchange) bool

// Any chooses all of them.
func Any(*Exchange) bool { return true }

// To chooses requests of a method to a path or to what is below it.
func To(method, path string) Match {
	return func(e *Exchange) bool {
		rest, ok := strings.CutPrefix(e.Path, path)
		return ok && e.Method == method && (rest == "" || rest[0] == '/')
	}
}

// ToAccount chooses requests to a route of one account, such as
// ToAccount("GET", "/v1/reachable", bob, "").
func ToAccount(method, route string, a keyapi.Account, suffix string) Match {
	return func(e *Exchange) bool {
		return e.Method == method && e.Path == route+"/"+a.Platform+"/"+a.ID+suffix
	}
}

// From chooses those of some devices' requests that m chooses; a nil m: all.
func From(m Match, devices ...string) Match {
	return func(e *Exchange) bool {
		for _, d := range devices {
			if e.Device == d {
				return m == nil || m(e)
			}
		}
		return false
	}
}

// Act does something to an exchange. serve lets the request through to the
// server behind and fills in its answer; it may be called never, once or often.
type Act func(e *Exchange, serve func())

// Attack is what to do, and to which requests.
type Attack struct {
	On    Match // nil: Any
	Skip  int   // so many matching requests are left alone first
	Times int   // then so many are attacked; 0: all
	Do    Act
}

// Middle is the man in the middle: he has hold of every exchange that is passed to
// him, and does to it what he was told (Start). The zero value lets all of them
// through as they are. A Server has one; where a test carries requests to a key
// server by itself, it passes them to one of its own. It is safe for concurrent use.
type Middle struct {
	lock    sync.Mutex
	attacks []*Running
}

// Running is an attack that was started.
type Running struct {
	a       Attack
	m       *Middle
	matched atomic.Int64
	hits    atomic.Int64
}

// Start begins an attack. Of several that match one request the one started
// first sees it first, and its answer last.
func (m *Middle) Start(a Attack) *Running {
	if a.On == nil {
		a.On = Any
	}
	r := &Running{a: a, m: m}
	m.lock.Lock()
	defer m.lock.Unlock()
	m.attacks = append(m.attacks, r)
	return r
}

// Always is Start with neither Skip nor Times.
func (m *Middle) Always(on Match, do Act) *Running { return m.Start(Attack{On: on, Do: do}) }

// Once is Start for the next request that matches.
func (m *Middle) Once(on Match, do Act) *Running { return m.Start(Attack{On: on, Times: 1, Do: do}) }

// Stop ends the attack. Requests that it has hold of end as it likes.
func (r *Running) Stop() {
	r.m.lock.Lock()
	defer r.m.lock.Unlock()
	for i, o := range r.m.attacks {
		if o == r {
			r.m.attacks = append(r.m.attacks[:i:i], r.m.attacks[i+1:]...)
			return
		}
	}
}

// Hits is how many requests were attacked. A test asks, or it may have tested
// nothing.
func (r *Running) Hits() int { return int(r.hits.Load()) }

// StopAll ends all attacks; forks stay.
func (m *Middle) StopAll() {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.attacks = nil
}

// Pass does to an exchange what the attacks that apply to it say. serve has an
// honest server answer it (Exchange.Serve).
func (m *Middle) Pass(e *Exchange, serve func()) {
	m.lock.Lock()
	running := append([]*Running(nil), m.attacks...)
	m.lock.Unlock()
	chain(running, e, serve)()
}

// chain nests the attacks that apply around serve.
func chain(running []*Running, e *Exchange, serve func()) func() {
	for i := len(running) - 1; i >= 0; i-- {
		r, next := running[i], serve
		serve = func() {
			if r.takes(e) {
				r.a.Do(e, next)
			} else {
				next()
			}
		}
	}
	return serve
}

func (r *Running) takes(e *Exchange) bool {
	if !r.a.On(e) {
		return false
	}
	n := int(r.matched.Add(1))
	if n <= r.a.Skip || r.a.Times > 0 && n > r.a.Skip+r.a.Times {
		return false
	}
	r.hits.Add(1)
	return true
}
