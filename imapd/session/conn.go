package session

import (
	"bufio"
	"io"
	"net"
	"sync"
	"time"

	"github.com/cloudmls/gateway/imapd/wire"
)

// writeChunk is the largest write that one progress deadline covers.
const writeChunk = 64 << 10

// timedConn gives a connection deadlines by progress: every write has one, and
// reads have one while armed. A long response to a slow peer never times out
// as long as octets move.
type timedConn struct {
	net.Conn
	progress time.Duration
	// before is called ahead of each read, to flush what the peer may be
	// waiting for; where raw is there, it does so.
	before func()
	raw    *Buffered // below TLS, or nil

	mu    sync.Mutex
	armed bool
	// lazy: whoever arms is who reads, so that the deadline itself can wait for
	// the next read. set: there is one.
	lazy, set bool
}

// arm turns the read deadline on, from now, or off.
func (c *timedConn) arm(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lazy || on && c.armed { // every read and write moves an armed deadline
		c.armed = on
		return
	}
	c.armed = on
	c.setReadDeadline()
}

// armLazily says that only the reading goroutine arms from now on.
func (c *timedConn) armLazily() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lazy = true
}

// setReadDeadline ignores errors: they mean that the connection is closed,
// which the next read tells.
func (c *timedConn) setReadDeadline() {
	c.set = c.armed
	if c.armed {
		_ = c.Conn.SetReadDeadline(time.Now().Add(c.progress))
	} else {
		_ = c.Conn.SetReadDeadline(time.Time{})
	}
}

// beforeWaiting sets what is called before a read that has to wait. A TLS
// handshake must be over: the function may write to this connection.
func (c *timedConn) beforeWaiting(f func()) {
	if c.raw != nil {
		c.raw.before = f
	} else {
		c.before = f
	}
}

// Read implements io.Reader.
func (c *timedConn) Read(p []byte) (int, error) {
	if c.before != nil {
		c.before()
	}
	c.extend()
	return c.Conn.Read(p)
}

// extend moves an armed read deadline: octets have moved, or waiting for them
// begins only now.
func (c *timedConn) extend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed || c.set {
		c.setReadDeadline()
	}
}

// Write implements io.Writer.
func (c *timedConn) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.progress)); err != nil {
			return total, err
		}
		n, err := c.writeSome(p[:min(len(p), writeChunk)])
		total += n
		if err != nil {
			return total, err
		}
		p = p[n:]
		c.extend() // a peer that takes an upload need not speak
	}
	return total, nil
}

func (c *timedConn) writeSome(p []byte) (int, error) {
	if c.raw == nil {
		return c.Conn.Write(p)
	}
	return c.raw.together(func() (int, error) { return c.Conn.Write(p) })
}

func newTimedConn(conn net.Conn, progress time.Duration) *timedConn {
	return &timedConn{Conn: conn, progress: progress, raw: below(conn)}
}

// upstream is the provider's side of a session.
type upstream struct {
	conn *timedConn
	r    *wire.Reader
	w    *bufio.Writer // the client goroutine's
	caps capabilities
}

func newUpstream(conn net.Conn, progress time.Duration) *upstream {
	t := newTimedConn(conn, progress)
	return &upstream{conn: t, r: wire.NewReader(t), w: bufio.NewWriterSize(t, writeChunk)}
}

// capabilities are a server's, in its order.
type capabilities []string

func (c capabilities) has(name string) bool {
	for _, have := range c {
		if equalFold(have, name) {
			return true
		}
	}
	return false
}

// output is the way to the mail client. Two goroutines write to it: the relay
// of the provider's responses, and the handler of the client's command. Each
// writes whole responses under mu; while the handler sends one that takes
// several steps it holds the output, and what the relay brings meanwhile waits
// in a queue.
type output struct {
	mu    sync.Mutex
	w     *bufio.Writer
	held  bool
	busy  bool // the handler is in the middle of a response
	queue []byte
	limit int

	// streaming is set while the relay goroutine, and only it, passes on a
	// response that it is still reading: it holds mu then.
	streaming bool
}

func newOutput(w io.Writer, limit int) *output {
	return &output{w: bufio.NewWriterSize(w, writeChunk), limit: limit}
}

// relay lets fn write one complete response.
func (o *output) relay(fn func(w io.Writer) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.held {
		return fn((*queueWriter)(o))
	}
	return fn(o.w)
}

// stream is relay for the relay goroutine, whose fn reads from the provider.
func (o *output) stream(fn func(w io.Writer) error) error {
	return o.relay(func(w io.Writer) error {
		o.streaming = true
		defer func() { o.streaming = false }()
		return fn(w)
	})
}

// flushRelay sends what has been written, for the relay goroutine before it
// waits for the provider.
func (o *output) flushRelay() error {
	if !o.streaming {
		return o.flush()
	}
	if o.held {
		return nil
	}
	return o.w.Flush()
}

// line writes one complete response given in pieces, from either goroutine.
func (o *output) line(pieces ...[]byte) error {
	return o.relay(func(w io.Writer) error {
		for _, p := range pieces {
			if _, err := w.Write(p); err != nil {
				return err
			}
		}
		return nil
	})
}

type queueWriter output

func (q *queueWriter) Write(p []byte) (int, error) {
	if len(q.queue)+len(p) > q.limit {
		return 0, wire.ErrTooLong
	}
	q.queue = append(q.queue, p...)
	return len(p), nil
}

// hold makes the relay's responses wait until release; only direct writes go
// out. For the client goroutine.
func (o *output) hold() {
	o.mu.Lock()
	o.held = true
	o.mu.Unlock()
}

// release lets waiting responses go, after what was written directly.
func (o *output) release() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = false
	_, err := o.w.Write(o.queue)
	o.queue = nil
	return err
}

// direct writes past the hold. For the client goroutine.
func (o *output) direct() io.Writer { return (*directWriter)(o) }

type directWriter output

func (d *directWriter) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.w.Write(p)
}

func (o *output) flush() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Flush()
}

// begin and end enclose a response that the handler writes in several steps.
func (o *output) begin() {
	o.mu.Lock()
	o.held, o.busy = true, true
	o.mu.Unlock()
}

func (o *output) end() error {
	o.mu.Lock()
	o.busy = false
	o.mu.Unlock()
	return o.release()
}

// lastWord writes a line before the connection is closed, unless a response is
// being written: in the middle of a literal nothing can be said. "" writes
// only what has been waiting.
func (o *output) lastWord(text string) {
	if !o.mu.TryLock() {
		return
	}
	defer o.mu.Unlock()
	if o.busy {
		return
	}
	out := o.queue
	o.queue, o.held = nil, false
	if text != "" {
		out = append(out, text+"\r\n"...)
	}
	// An error means that there is nobody to tell.
	if _, err := o.w.Write(out); err == nil {
		_ = o.w.Flush()
	}
}
