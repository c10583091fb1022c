package keyserver

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
)

// A connection costs some 20 KiB while it does nothing at all, so they are
// counted where they are accepted, before TLS and before anybody has said who
// he is: all of them, and those of each network prefix. Of the room that others
// have left, one network takes at most a fourth: no few of them keep the rest
// of the world out.
//
// One too many is answered with a problem while there are not many of these;
// the others are closed.
const (
	networkShare   = 4
	refusedAtOnce  = 64
	refusedTimeout = 5 * time.Second // for TLS, one request and its answer
)

// connections counts those that are open.
type connections struct {
	mu      sync.Mutex
	all     int
	refused int
	from    map[string]int
}

type verdict int

const (
	admitted verdict = iota
	refused          // gets an answer
	dropped
)

// enter counts one more connection of a network; exempt ones count among all
// only. Whatever is not dropped leaves.
func (c *connections) enter(from string, exempt bool, l *Limits) verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.from == nil {
		c.from = map[string]int{}
	}
	own := c.from[from]
	full := l.Connections >= 0 && c.all >= l.Connections
	if !exempt {
		full = full || l.ConnectionsFrom >= 0 && own >= l.ConnectionsFrom ||
			l.Connections >= 0 && own > 0 && own >= (l.Connections-(c.all-own))/networkShare
	}
	if !full {
		c.all++
		c.from[from]++
		return admitted
	}
	if c.refused >= refusedAtOnce {
		return dropped
	}
	c.refused++
	return refused
}

func (c *connections) leave(from string, v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v == refused {
		c.refused--
		return
	}
	c.all--
	if c.from[from]--; c.from[from] == 0 {
		delete(c.from, from)
	}
}

// Listener bounds the connections that are accepted by Limits.Connections and
// Limits.ConnectionsFrom. It goes below TLS, around what net.Listen gave;
// HTTPServer answers those that are too many.
func (s *Server) Listener(ln net.Listener) net.Listener { return &countingListener{ln, s} }

type countingListener struct {
	net.Listener
	s *Server
}

func (l *countingListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from, exempt := l.s.origin(c.RemoteAddr())
		v := l.s.connections.enter(from, exempt, &l.s.Limits)
		if v == dropped {
			_ = c.Close() // nobody is told anything
			continue
		}
		counted := &countedConn{Conn: c, leave: sync.OnceFunc(func() { l.s.connections.leave(from, v) })}
		if v == refused {
			counted.end = time.Now().Add(refusedTimeout)
			if err := c.SetDeadline(counted.end); err != nil {
				_ = counted.Close()
				continue
			}
		}
		return counted, nil
	}
}

// origin is the network that a connection counts for; a trusted proxy has the
// connections of many.
func (s *Server) origin(a net.Addr) (network string, exempt bool) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok { // a unix socket: whoever may open it is the proxy
		return "local", true
	}
	ip := tcp.AddrPort().Addr().Unmap().WithZone("")
	for _, p := range s.TrustedProxies {
		if p.Contains(ip) {
			return networkOf(ip), true
		}
	}
	return networkOf(ip), false
}

// countedConn is a connection that counts until it is closed.
type countedConn struct {
	net.Conn
	leave func()
	end   time.Time // not zero: refused, and over then
}

func (c *countedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// CloseWrite lets net/http see to it that a last answer arrives.
func (c *countedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// before is the deadline that is set in place of t.
func (c *countedConn) before(t time.Time) time.Time {
	if !c.end.IsZero() && (t.IsZero() || t.After(c.end)) {
		return c.end
	}
	return t
}

func (c *countedConn) SetDeadline(t time.Time) error     { return c.Conn.SetDeadline(c.before(t)) }
func (c *countedConn) SetReadDeadline(t time.Time) error { return c.Conn.SetReadDeadline(c.before(t)) }
func (c *countedConn) SetWriteDeadline(t time.Time) error {
	return c.Conn.SetWriteDeadline(c.before(t))
}

type refusedKey struct{}

// markRefused is the ConnContext of HTTPServer.
func markRefused(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if counted, ok := c.(*countedConn); ok && !counted.end.IsZero() {
		return context.WithValue(ctx, refusedKey{}, true)
	}
	return ctx
}

// refuse answers what came over a connection too many.
func refuse(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(refusedKey{}) == nil {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Connection", "close")
		p := newRateLimited(refusedTimeout)
		p.Detail = "too many connections are open, or too many from your network"
		writeProblem(w, p)
	})
}

// openGate counts the bodies of requests without a token that are being read,
// by network: their senders are not known, so nothing else bounds them.
type openGate struct {
	mu   sync.Mutex
	from map[string]int
}

const (
	openBodiesFrom = 64               // at once, of one network; it could sign in no faster either
	openTimeout    = 20 * time.Second // for a body of at most openBody
)

// gateOpen is a middleware of routes that have a body and need no token.
func (s *Server) gateOpen(c huma.Context, next func(huma.Context)) {
	from := network(c.Context())
	if !s.open.enter(from) {
		_, w := humachi.Unwrap(c)
		writeProblem(w, newRateLimited(time.Second))
		return
	}
	defer s.open.leave(from)
	next(c)
}

func (g *openGate) enter(from string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.from == nil {
		g.from = map[string]int{}
	}
	if g.from[from] >= openBodiesFrom {
		return false
	}
	g.from[from]++
	return true
}

func (g *openGate) leave(from string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.from[from]--; g.from[from] == 0 {
		delete(g.from, from)
	}
}
