package smtpd

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync"
)

// listener hands guarded connections to go-smtp and bounds their number.
type listener struct {
	net.Listener
	tls *tls.Config // nil for a plain listener
	t   Timeouts

	mu       sync.Mutex
	guards   map[*guard]struct{}
	draining bool
}

func newListener(ln net.Listener, config *tls.Config, t Timeouts) *listener {
	return &listener{Listener: ln, tls: config, t: t, guards: make(map[*guard]struct{})}
}

// Accept implements net.Listener. Connections over the limits are closed
// without a word.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if l.tls != nil {
			conn = tls.Server(conn, l.tls)
		}
		if g := l.admit(conn); g != nil {
			return g, nil
		}
		_ = conn.Close() // nothing was said on it
	}
}

func (l *listener) admit(conn net.Conn) *guard {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.draining || len(l.guards) >= MaxConnections {
		return nil
	}
	strangers := 0
	for g := range l.guards {
		if !g.authenticated() {
			strangers++
		}
	}
	if strangers >= MaxUnauthenticated {
		return nil
	}
	g := newGuard(conn, l.t, l.release)
	l.guards[g] = struct{}{}
	return g
}

func (l *listener) release(g *guard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.guards, g)
}

// drain stops accepting, also where go-smtp does not serve the listener yet,
// and closes all connections as soon as no message is under way on them.
func (l *listener) drain() {
	_ = l.Listener.Close() // go-smtp closes it again
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	for g := range l.guards {
		g.drain("the gateway is shutting down")
	}
}

// checkAddress allows loopback addresses and Unix sockets only.
func checkAddress(addr net.Addr) error {
	switch a := addr.(type) {
	case *net.UnixAddr:
		return nil
	case *net.TCPAddr:
		if a.IP.IsLoopback() {
			return nil
		}
	}
	return fmt.Errorf("smtpd: %s is not a loopback address", addr)
}

// closeAll cuts every connection.
func (l *listener) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for g := range l.guards {
		_ = g.Conn.Close() // go-smtp closes the guard when it notices
	}
}
