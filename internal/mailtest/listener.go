package mailtest

import (
	"errors"
	"net"
	"sync"
)

// faultListener strikes before a connection is greeted, and knows the open
// connections: the libraries' servers miss some when they are closed at once.
type faultListener struct {
	net.Listener
	p  *Provider
	at Point

	mu     sync.Mutex
	closed bool
	conns  map[*trackedConn]struct{}
}

func newFaultListener(ln net.Listener, p *Provider, at Point) *faultListener {
	return &faultListener{Listener: ln, p: p, at: at, conns: make(map[*trackedConn]struct{})}
}

// Accept implements net.Listener.
func (l *faultListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if f := l.p.faults.take(l.at, ""); f != nil && f.strike(conn, l.p.done) {
			continue
		}
		tracked := &trackedConn{Conn: conn, l: l}
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return nil, errors.Join(net.ErrClosed, conn.Close())
		}
		l.conns[tracked] = struct{}{}
		l.mu.Unlock()
		return tracked, nil
	}
}

// end closes the listener and every connection.
func (l *faultListener) end() error {
	l.mu.Lock()
	l.closed = true
	var conns []*trackedConn
	for c := range l.conns {
		conns = append(conns, c)
	}
	l.mu.Unlock()
	err := notClosed(l.Listener.Close())
	for _, c := range conns {
		_ = c.Close() // the other side may have been faster
	}
	return err
}

func notClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// trackedConn leaves its listener's list when it is closed.
type trackedConn struct {
	net.Conn
	l *faultListener
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}
