package keyserver

import (
	"context"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// A transaction is held in memory while it is carried out, in several forms.
// Ordinary ones are of some KiB; these limits are for the others. Answers are
// held as well, until a slow client has read them.
const (
	largeBody   = 4 << 20                        // announced length from which a body is large
	largeBodies = 8                              // at once
	largeOfOne  = 2                              // of these, of one user
	octetsOfOne = 2*keyapi.MaxTxSize + largeBody // of bodies and answers at once, of one user
	octetsOfAll = 8 * octetsOfOne                // of everybody
	octetsShare = 4                              // of what others have left, one user has at most this part
)

// largeGate counts bodies and answers that are in memory. There is a share of
// it for the next user always: a few users keep nobody from small ones.
type largeGate struct {
	mu    sync.Mutex
	total int // large bodies
	all   int64
	users map[UserID]int64
	large map[UserID]int // large bodies
}

// enter counts a body of n octets, unless that is too much.
func (g *largeGate) enter(u UserID, n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n >= largeBody && (g.total >= largeBodies || g.large[u] >= largeOfOne) || !g.room(u, n) {
		return false
	}
	if n >= largeBody {
		if g.large == nil {
			g.large = map[UserID]int{}
		}
		g.total++
		g.large[u]++
	}
	g.add(u, n)
	return true
}

// room tells whether a user may have n more octets in memory.
func (g *largeGate) room(u UserID, n int64) bool {
	own := g.users[u]
	return own+n <= min(octetsOfOne, (octetsOfAll-(g.all-own))/octetsShare)
}

func (g *largeGate) leave(u UserID, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n >= largeBody {
		g.total--
		if g.large[u]--; g.large[u] == 0 {
			delete(g.large, u)
		}
	}
	g.add(u, -n)
}

func (g *largeGate) add(u UserID, n int64) {
	if g.users == nil {
		g.users = map[UserID]int64{}
	}
	g.all += n
	if g.users[u] += n; g.users[u] == 0 {
		delete(g.users, u)
	}
}

// held is the answer of one request: octets that stay in memory until the
// client has taken them.
type held struct {
	user UserID
	n    int64
}

type heldKey struct{}

// hold counts n octets of an answer; the problem says to come again.
func (s *Server) hold(ctx context.Context, n int64) error {
	h, ok := ctx.Value(heldKey{}).(*held)
	if !ok {
		panic("keyserver: route without gateAnswer holds an answer")
	}
	g := &s.large
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.room(h.user, n) {
		return rateLimited(time.Second)
	}
	g.add(h.user, n)
	h.n += n
	return nil
}

// gateAnswer is a middleware behind authenticate or recognise, for routes that call hold.
func (s *Server) gateAnswer(c huma.Context, next func(huma.Context)) {
	h := &held{user: bearer(c.Context()).user}
	defer func() {
		s.large.mu.Lock()
		defer s.large.mu.Unlock()
		s.large.add(h.user, -h.n)
	}()
	next(huma.WithValue(c, heldKey{}, h))
}

// gateLarge is a middleware behind authenticate or recognise. A body of unknown length
// counts as the longest one.
func (s *Server) gateLarge(c huma.Context, next func(huma.Context)) {
	r, w := humachi.Unwrap(c)
	n := r.ContentLength
	if n < 0 || n > keyapi.MaxTxSize {
		n = keyapi.MaxTxSize
	}
	u := bearer(c.Context()).user
	if !s.large.enter(u, n) {
		writeProblem(w, newRateLimited(time.Second))
		return
	}
	defer s.large.leave(u, n)
	next(c)
}
