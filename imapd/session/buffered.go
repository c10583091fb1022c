package session

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
)

// Buffered is a connection below TLS. TLS reads and writes record by record, a
// system call or two for each; here one call moves several. It also knows what
// TLS does not tell: whether a read would have to wait for the peer. One
// goroutine may read and another write.
type Buffered struct {
	net.Conn

	// before is called when a read is about to wait for the network. For the
	// reading goroutine.
	before func()
	quiet  atomic.Bool // before is not called any more
	buf    []byte
	rest   []byte // what of buf has not been read

	mu     sync.Mutex
	corked bool
	out    []byte
}

// rawBuffer is how much one system call reads or writes.
const rawBuffer = 128 << 10

// NewBuffered wraps a connection that TLS will run on.
func NewBuffered(conn net.Conn) *Buffered { return &Buffered{Conn: conn} }

// below returns the Buffered under a TLS connection, nil if there is none.
func below(conn net.Conn) *Buffered {
	if t, ok := conn.(*tls.Conn); ok {
		b, _ := t.NetConn().(*Buffered)
		return b
	}
	return nil
}

// Read implements io.Reader.
func (b *Buffered) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		if b.before != nil && !b.quiet.Load() {
			b.before()
		}
		if err := b.sendHeld(); err != nil {
			return 0, err
		}
		if b.buf == nil {
			b.buf = make([]byte, rawBuffer)
		}
		n, err := b.Conn.Read(b.buf)
		b.rest = b.buf[:n]
		if n == 0 {
			return 0, err
		}
		// An error comes again with the next read.
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// sendHeld sends what a write under way has held together so far: within it TLS
// may have to hear from the peer first.
func (b *Buffered) sendHeld() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.out) == 0 {
		return nil
	}
	_, err := b.Conn.Write(b.out)
	b.out = b.out[:0]
	return err
}

// Write implements io.Writer.
func (b *Buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.corked {
		b.out = append(b.out, p...)
		return len(p), nil
	}
	return b.Conn.Write(p)
}

// together runs write, which writes through TLS, and sends what comes of it with
// one system call.
func (b *Buffered) together(write func() (int, error)) (int, error) {
	b.mu.Lock()
	b.corked = true
	b.mu.Unlock()
	n, err := write()
	b.mu.Lock()
	b.corked = false
	b.mu.Unlock()
	if sendErr := b.sendHeld(); err == nil {
		err = sendErr
	}
	return n, err
}
