// Package session pairs a mail client's connection with one to the provider.
//
// Two goroutines run per session. The client goroutine reads the client's
// commands and is the only one that writes to the provider; the relay
// goroutine reads the provider's responses. A command that touches no sealed
// message is passed on at once, so pipelining works as without the relay. Any
// other waits until the commands before it are done, and then runs alone: its
// handler sends commands of its own and gets their responses, while whatever
// else the provider says goes to the client in order.
//
// Commands of the relay's own are of the sequence-number kind throughout: the
// provider may not send EXPUNGE while such a command is in progress (RFC 9051
// section 7.5.1), so numbers never shift under either side.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudmls/gateway/imapd/wire"
)

// Config is what the connections of one server share.
type Config struct {
	Backend Backend
	Logger  *slog.Logger
	Limits  Limits
	// SpoolDir is where large messages are spooled, encrypted; "" means the
	// system's temporary folder.
	SpoolDir string

	guard    loginGuard
	reissues keyedLocks
	shown    shownBoxes
	live     liveSessions
	nextID   atomic.Int64
}

// session is one client connection.
type session struct {
	cfg *Config
	log *slog.Logger
	ctx context.Context
	end func(cause error) // ends ctx; a farewell is said to the client

	client *timedConn
	cr     *wire.Reader
	out    *output
	bads   int // bad commands before login
	// mayExpunge: the client's command in progress is one during which EXPUNGE
	// is allowed (RFC 9051 section 7.5.1).
	mayExpunge bool

	// Set at login.
	user string
	acct Account
	idx  Index
	up   *upstream
	// leave takes the session out of Config.live.
	leave func()

	tagN   int
	opened *viewCache
	// held is for the client goroutine: content that was served last.
	held *heldContent
	// ahead is for the client goroutine: the own command in progress that is
	// not waited for, or nil.
	ahead *bulkStream
	// serving tells bulk readers that the client goroutine runs a handler.
	serving atomic.Bool
	// left: the client's side is over, and with it the provider's connection.
	left atomic.Bool

	mu      sync.Mutex
	drained *sync.Cond
	pending []*command
	dead    error // why the provider's connection ended
	bye     bool  // the provider said BYE
	box     *mailbox
	qresync bool
}

// Serve speaks to one mail client until either side ends the connection or ctx
// is cancelled, and closes conn. onLogin is called once the client has signed
// in.
func Serve(ctx context.Context, conn net.Conn, c *Config, onLogin func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := &session{
		cfg:    c,
		log:    c.Logger.With("conn", c.nextID.Add(1)),
		ctx:    ctx,
		end:    cancel,
		client: newTimedConn(conn, c.Limits.Progress),
	}
	s.drained, s.leave = sync.NewCond(&s.mu), func() {}
	s.cr = wire.NewReader(s.client)
	s.cr.Strict = true
	s.out = newOutput(s.client, c.Limits.ResponseBytes)

	stop := context.AfterFunc(ctx, func() {
		var f farewell
		if !errors.As(context.Cause(ctx), &f) {
			f = "Gateway is shutting down"
		}
		s.out.lastWord("* BYE " + string(f))
		s.closeClient()
		s.mu.Lock()
		up := s.up
		s.mu.Unlock()
		if up != nil {
			up.conn.Close()
		}
	})
	defer stop()
	defer s.closeClient()

	defer func() { s.leave() }()

	err := s.guarded(func() error { return s.authenticate(onLogin) })
	if err == nil {
		err = s.relaySession()
	}
	switch {
	case err == nil, errors.Is(err, errGone), errors.Is(err, io.EOF):
		s.log.Debug("imap session ended")
	case errors.Is(err, errHostile):
		s.log.Warn("connection refused: not an imap client")
	default:
		s.report(slog.LevelInfo, "imap session failed", err)
	}
}

// relaySession runs the two goroutines until the session ends.
func (s *session) relaySession() error {
	if c, ok := s.acct.(io.Closer); ok {
		defer func() {
			if err := c.Close(); err != nil {
				s.log.Warn("close account", "error", err)
			}
		}()
	}
	relayDone := make(chan struct{})
	go func() {
		defer close(relayDone)
		err := s.guarded(s.relayLoop)
		s.mu.Lock()
		said := s.bye
		s.mu.Unlock()
		if !said {
			s.report(slog.LevelInfo, "connection to the mail provider ended", err)
			s.watchEnd(err)
			s.out.lastWord("* BYE [UNAVAILABLE] " + byeSentence(err))
		} else {
			s.out.lastWord("")
		}
		s.fail(err)
		s.closeClient()
	}()
	err := s.guarded(s.commandLoop)
	s.left.Store(true) // before the provider can answer the end with its own
	s.up.conn.Close()
	s.finishAhead() // the relay goroutine may be waiting for who reads on
	<-relayDone
	s.setBox(nil)
	return err
}

// guarded runs one of the session's loops; a panic in it ends this session
// only.
func (s *session) guarded(loop func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("imap session panicked", "stack", string(debug.Stack()))
			s.log.Debug("imap session panicked", "value", v)
			err = errors.New("internal error")
		}
	}()
	return loop()
}

// report logs an error without the words of others, which may hold addresses;
// these go to the debug level.
func (s *session) report(level slog.Level, msg string, err error) {
	s.log.Log(s.ctx, level, msg, "error", plainCause(err))
	s.log.Debug(msg, "cause", err)
}

func byeSentence(err error) string {
	var p *providerError
	if errors.As(err, &p) {
		return oneLine(p.text)
	}
	return "The connection to the mail provider ended, please try again"
}

// closeClient ends the client's connection. What was written last should reach
// the client although it may still be sending: TCP would otherwise throw it
// away with a reset.
func (s *session) closeClient() {
	if hc, ok := s.client.Conn.(interface{ CloseWrite() error }); ok && s.ctx.Err() == nil {
		if hc.CloseWrite() == nil {
			s.client.linger()
		}
	}
	s.client.Close()
}

// lingerTime is how long a closing session reads what the client still sends.
const lingerTime = 250 * time.Millisecond

// linger reads until the peer closes, for a short time.
func (c *timedConn) linger() {
	if c.raw != nil {
		c.raw.quiet.Store(true) // this may be another goroutine than the reading one
	}
	c.mu.Lock()
	c.armed = false
	err := c.Conn.SetReadDeadline(time.Now().Add(lingerTime))
	c.mu.Unlock()
	if err == nil {
		_, _ = io.Copy(io.Discard, c.Conn) // only to drain
	}
}

// flush sends what both peers may be waiting for. Errors show up at the next
// read or write.
func (s *session) flush() {
	if s.up != nil {
		_ = s.up.w.Flush()
	}
	_ = s.out.flush()
}

// fail ends all waiting with an error.
func (s *session) fail(err error) {
	if err == nil {
		err = errClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = err
	for _, c := range s.pending {
		c.err = err
		close(c.done)
	}
	s.pending = nil
	s.drained.Broadcast()
}

// no answers NO; an error means that the client is gone.
func (s *session) no(tag, code, text string) error {
	if code != "" {
		text = "[" + code + "] " + text
	}
	return s.tagged(tag, "NO "+text)
}

func (s *session) tagged(tag, text string) error {
	if err := s.out.line([]byte(tag + " " + text + "\r\n")); err != nil {
		return errGone
	}
	return nil
}

// bad answers BAD and returns errBadCommand, or an error that ends the
// session.
func (s *session) bad(tag, text string) error {
	if err := s.tagged(tag, "BAD "+text); err != nil {
		return err
	}
	return errBadCommand
}

func readFull(r io.Reader, p []byte) error {
	if _, err := io.ReadFull(r, p); err != nil {
		return fmt.Errorf("read literal: %w", err)
	}
	return nil
}
