package keyserver

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// A transaction is held in memory while it is carried out, in several forms.
// Ordinary ones are of some KiB; these limits are for the others. Answers are
// held as well, until a slow client has read them.
//
// Two things are counted. Octets, as they arrive: who announces much and sends
// little takes up little. And large bodies that are worked on, which takes many
// times their octets: a body is one of these only when all of it is here, so
// that no client decides how long it stays.
const (
	largeBody   = 4 << 20                        // length from which a body is large
	largeBodies = 8                              // worked on at once
	largeOfOne  = 2                              // of these, of one user
	octetsOfOne = 2*keyapi.MaxTxSize + largeBody // of bodies and answers at once, of one user
	octetsOfAll = 8 * octetsOfOne                // of everybody
	octetsShare = 4                              // of what others have left, one user has at most this part

	// largeWait is how long a body that is here waits for its turn.
	largeWait = 30 * time.Second
)

// largeGate counts bodies and answers that are in memory. There is a share of
// it for the next user always: a few users keep nobody from small ones.
type largeGate struct {
	mu    sync.Mutex
	total int // large bodies that are worked on
	all   int64
	users map[UserID]int64
	large map[UserID]int // large bodies that are worked on
	freed chan struct{}  // closed when one of them is done; nil: nobody waits
}

// enter counts n more octets of a user, unless that is too much.
func (g *largeGate) enter(u UserID, n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.room(u, n) {
		return false
	}
	g.add(u, n)
	return true
}

// fits tells whether n more octets would be counted now.
func (g *largeGate) fits(u UserID, n int64) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.room(u, n)
}

// room tells whether a user may have n more octets in memory.
func (g *largeGate) room(u UserID, n int64) bool {
	own := g.users[u]
	return own+n <= min(octetsOfOne, (octetsOfAll-(g.all-own))/octetsShare)
}

func (g *largeGate) leave(u UserID, n int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
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

// begin waits until a large body of a user may be worked on; false: not in time.
func (g *largeGate) begin(ctx context.Context, u UserID) bool {
	ctx, cancel := context.WithTimeout(ctx, largeWait)
	defer cancel()
	for {
		freed, ok := g.tryBegin(u)
		if ok {
			return true
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return false
		}
	}
}

func (g *largeGate) tryBegin(u UserID) (freed <-chan struct{}, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.total >= largeBodies || g.large[u] >= largeOfOne {
		if g.freed == nil {
			g.freed = make(chan struct{})
		}
		return g.freed, false
	}
	if g.large == nil {
		g.large = map[UserID]int{}
	}
	g.total++
	g.large[u]++
	return nil, true
}

func (g *largeGate) end(u UserID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.total--
	if g.large[u]--; g.large[u] == 0 {
		delete(g.large, u)
	}
	if g.freed != nil {
		close(g.freed)
		g.freed = nil
	}
}

// held is the answer of one request: octets that stay in memory until the
// client has taken them.
type held struct {
	user UserID
	n    int64
}

type heldKey struct{}

// hold counts n octets of an answer, less ones where n is below zero; the problem
// says to come again.
func (s *Server) hold(ctx context.Context, n int64) error {
	h, ok := ctx.Value(heldKey{}).(*held)
	if !ok {
		panic("keyserver: route without gateAnswer holds an answer")
	}
	g := &s.large
	g.mu.Lock()
	defer g.mu.Unlock()
	if n > 0 && !g.room(h.user, n) {
		return rateLimited(time.Second)
	}
	g.add(h.user, n)
	h.n += n
	return nil
}

// winnerHeld counts the longest Commit there is before one is read that has won:
// whoever comes too late a hundred times at once has it a hundred times in memory
// otherwise.
type winnerHeld struct {
	Writer
	reserve func() error
}

// DeliveredCommit implements Reader.
func (w winnerHeld) DeliveredCommit(a keyapi.Account, group []byte, epoch uint64) (*keyapi.Delivery, error) {
	if err := w.reserve(); err != nil {
		return nil, err
	}
	return w.Writer.DeliveredCommit(a, group, epoch)
}

// holdProblem counts what an error brings along: the Commit that has won may
// have 16 MiB.
func (s *Server) holdProblem(ctx context.Context, err error) error {
	var p *problem
	if !errors.As(err, &p) || p.Winner == nil {
		return err
	}
	if full := s.hold(ctx, int64(len(p.Winner.Message))); full != nil {
		return full
	}
	return err
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
