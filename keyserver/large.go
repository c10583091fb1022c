package keyserver

import (
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
)

// A transaction is held in memory while it is carried out, in several forms.
// Ordinary ones are of some KiB; these limits are for the others.
const (
	largeBody        = 4 << 20 // announced length from which a body is large
	largeBodies      = 8       // at once
	largeBodiesOfOne = 2       // at once, of one user
)

// largeGate counts large bodies under way.
type largeGate struct {
	mu    sync.Mutex
	total int
	users map[UserID]int
}

func (g *largeGate) enter(u UserID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= largeBodies || g.users[u] >= largeBodiesOfOne {
		return false
	}
	if g.users == nil {
		g.users = map[UserID]int{}
	}
	g.total++
	g.users[u]++
	return true
}

func (g *largeGate) leave(u UserID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.users[u]--; g.users[u] == 0 {
		delete(g.users, u)
	}
}

// gateLarge is a middleware behind authenticate. A body of unknown length
// counts as large.
func (s *Server) gateLarge(c huma.Context, next func(huma.Context)) {
	r, w := humachi.Unwrap(c)
	if r.ContentLength >= 0 && r.ContentLength < largeBody {
		next(c)
		return
	}
	u := caller(c.Context()).user
	if !s.large.enter(u) {
		writeProblem(w, newRateLimited(time.Second))
		return
	}
	defer s.large.leave(u)
	next(c)
}
