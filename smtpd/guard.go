package smtpd

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// errBrowser ends a connection that speaks HTTP: a web page must not be able
// to post commands to the listener.
var errBrowser = errors.New("connection speaks http")

// readAhead is how much go-smtp may have taken off the connection and not yet
// looked at (the buffer of net/textproto).
const readAhead = 4096

// guard is a client's connection, in clear, below go-smtp. It adds what the
// library lacks: deadlines that every octet renews, an end for connections
// that do not log in or speak HTTP, a check of line ends on the octets as they
// arrive (go-smtp swallows some, see enterData), and an orderly shutdown.
type guard struct {
	net.Conn
	t       Timeouts
	release func(*guard) // tells the listener; called once

	// Used by the reading goroutine only.
	head []byte
	prev byte

	mu            sync.Mutex
	loginDeadline time.Time // zero once logged in
	busy          bool      // inside a message
	draining      bool
	farewell      string // said once nothing is under way; empty if it was
	strict        bool   // inside DATA
	delivered     int64  // octets handed to go-smtp
	lastBare      int64  // value of delivered after the last bare CR or LF; 0 for none
	err           error  // what every further Read returns
	closed        bool
}

func newGuard(conn net.Conn, t Timeouts, release func(*guard)) *guard {
	g := &guard{Conn: conn, t: t, release: release, loginDeadline: time.Now().Add(t.Login)}
	// Also covers a TLS handshake, which happens in the first Write.
	_ = conn.SetDeadline(g.loginDeadline) // an error shows in the first Read
	return g
}

// Read implements net.Conn.
func (g *guard) Read(p []byte) (int, error) {
	if err := g.beforeRead(); err != nil {
		return 0, err
	}
	n, err := g.Conn.Read(p)
	if err != nil && g.sayFarewell() {
		err = io.EOF
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if n > 0 {
		if bad := g.inspect(p[:n]); bad != nil {
			n, err = 0, bad
		}
	}
	if err != nil {
		// Also a timeout is final: go-smtp would read on to find the end of
		// the message, and each Read would have a new deadline.
		g.err = err
	}
	return n, err
}

func (g *guard) beforeRead() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return g.err
	}
	if g.draining && !g.busy {
		g.mu.Unlock()
		g.sayFarewell()
		g.mu.Lock()
		return io.EOF
	}
	// Under one lock with the question above, or the deadline that drain sets
	// would be moved and its wish forgotten.
	deadline := g.loginDeadline
	if deadline.IsZero() {
		deadline = time.Now().Add(g.t.Idle)
	}
	return g.Conn.SetReadDeadline(deadline)
}

// inspect looks at octets as they arrive.
func (g *guard) inspect(p []byte) error {
	if len(g.head) < 8 {
		g.head = append(g.head, p[:min(len(p), 8-len(g.head))]...)
		if speaksHTTP(g.head) {
			return errBrowser
		}
	}
	for i, b := range p {
		if (b == '\n') != (g.prev == '\r') {
			g.lastBare = g.delivered + int64(i) + 1
		}
		g.prev = b
	}
	g.delivered += int64(len(p))
	if g.strict && g.lastBare > g.delivered-int64(len(p)) {
		return errBareLineEnd
	}
	return nil
}

// speaksHTTP reports whether head starts with a method of HTTP/1 or with the
// preface of HTTP/2.
func speaksHTTP(head []byte) bool {
	for _, method := range []string{"GET ", "POST ", "PUT ", "HEAD ", "PATCH ", "TRACE ", "DELETE ", "OPTIONS ", "CONNECT ", "PRI "} {
		if bytes.HasPrefix(bytes.ToUpper(head), []byte(method)) {
			return true
		}
	}
	return false
}

// Write implements net.Conn.
func (g *guard) Write(p []byte) (int, error) {
	if err := g.Conn.SetWriteDeadline(time.Now().Add(g.t.Write)); err != nil {
		return 0, err
	}
	return g.Conn.Write(p)
}

// loggedIn ends the time limit for logging in.
func (g *guard) loggedIn() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.loginDeadline = time.Time{}
}

// extendLogin gives a connection that is kept waiting more time.
func (g *guard) extendLogin(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.loginDeadline.IsZero() {
		g.loginDeadline = time.Now().Add(d)
	}
}

func (g *guard) authenticated() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.loginDeadline.IsZero()
}

// enterData begins a message. With strict set (DATA, not BDAT) a CR without LF
// or LF without CR in the octets themselves ends the connection: go-smtp
// swallows some of them ("\r\n.\rX" loses three octets) and misses the end of
// the message after others ("\r\r\n.\r\n"). It returns errBareLineEnd if the
// library may have read one ahead already.
func (g *guard) enterData(strict bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy, g.strict = true, strict
	if strict && g.lastBare > 0 && g.lastBare > g.delivered-readAhead {
		g.err = errBareLineEnd
		return errBareLineEnd
	}
	return nil
}

// leaveData ends what enterData began.
func (g *guard) leaveData() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy, g.strict = false, false
}

// drain closes the connection with a 421 (RFC 5321 section 3.8) as soon as no
// message is under way.
func (g *guard) drain(text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.draining {
		g.draining, g.farewell = true, text
	}
	if !g.busy {
		_ = g.Conn.SetReadDeadline(time.Unix(1, 0)) // wakes the reader; Close follows
	}
}

// sayFarewell reports whether the connection is to be closed now, and says so.
// The reading goroutine calls it before and after it waits for the client: then
// no reply of the library is on its way.
func (g *guard) sayFarewell() bool {
	g.mu.Lock()
	leave, text := g.draining && !g.busy, ""
	// A client that has not said anything may still be in the TLS handshake.
	if leave && g.delivered > 0 {
		text, g.farewell = g.farewell, ""
	}
	g.mu.Unlock()
	if text != "" {
		_, _ = g.Write([]byte("421 4.3.2 " + printable(text, false) + "\r\n")) // or there is nobody to tell
	}
	return leave
}

// Close implements net.Conn. After a refused message it first lets the client
// finish sending for a moment: closing at once would reset the connection and
// could take the reply with it.
func (g *guard) Close() error {
	g.mu.Lock()
	first, refused := !g.closed, errors.Is(g.err, errBareLineEnd)
	g.closed = true
	g.mu.Unlock()
	if !first {
		return nil
	}
	g.release(g)
	if refused {
		g.linger()
	}
	return g.Conn.Close()
}

func (g *guard) linger() {
	type closeWriter interface{ CloseWrite() error }
	if c, ok := g.Conn.(closeWriter); ok {
		if err := c.CloseWrite(); err != nil {
			return
		}
	}
	if err := g.Conn.SetReadDeadline(time.Now().Add(g.t.Linger)); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, g.Conn) // ends with the client or the deadline
}

var _ interface{ CloseWrite() error } = (*tls.Conn)(nil)
