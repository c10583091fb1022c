package imapd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cloudmls/gateway/imapd/session"
)

// Limits bounds what clients and providers may make the relay do; zero fields
// mean the documented defaults.
type Limits = session.Limits

// Options configures a Server.
type Options struct {
	// Backend is required.
	Backend Backend
	// TLSConfig turns on implicit TLS; nil means a plain listener, which must
	// be on loopback.
	TLSConfig *tls.Config
	// Logger receives connection-level events without addresses, subjects or
	// secrets above debug level; nil discards.
	Logger *slog.Logger
	Limits Limits
	// SpoolDir is where uploads above Limits.SpoolMemory are spooled,
	// encrypted; "" means the system's temporary folder.
	SpoolDir string
}

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("imapd: server closed")

// Server accepts mail clients. Safe for concurrent use.
type Server struct {
	config *session.Config
	tls    *tls.Config
	logger *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	listeners map[net.Listener]struct{}
	closed    bool
	conns     int
	preAuth   int
}

// New makes a Server; it does not listen yet.
func New(o Options) (*Server, error) {
	if o.Backend == nil {
		return nil, errors.New("imapd: Options.Backend is missing")
	}
	logger := o.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		config: &session.Config{
			Backend:  o.Backend,
			Logger:   logger,
			Limits:   o.Limits.WithDefaults(),
			SpoolDir: o.SpoolDir,
		},
		logger:    logger,
		listeners: make(map[net.Listener]struct{}),
	}
	if o.TLSConfig != nil {
		// ALPN "imap" keeps browsers out: their TLS offers only HTTP.
		s.tls = o.TLSConfig.Clone()
		s.tls.NextProtos = []string{"imap"}
		// Small first records are for slow networks, not for loopback.
		s.tls.DynamicRecordSizingDisabled = true
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Serve accepts connections on ln, which it closes, until Shutdown; then it
// returns ErrServerClosed. The listener must be on loopback.
func (s *Server) Serve(ln net.Listener) error {
	defer ln.Close()
	if !isLoopback(ln.Addr()) {
		return fmt.Errorf("imapd: %s is not a loopback address", ln.Addr())
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrServerClosed
	}
	s.listeners[ln] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, ln)
		s.mu.Unlock()
	}()

	pause := time.Duration(0)
	for {
		conn, err := ln.Accept()
		if err != nil {
			if s.isClosed() {
				return ErrServerClosed
			}
			var ne net.Error
			if !errors.As(err, &ne) || !ne.Timeout() && errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept mail client: %w", err)
			}
			// Out of file descriptors and the like: try again, not at once.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.logger.Error("accept mail client", "error", err)
			select {
			case <-time.After(pause):
			case <-s.ctx.Done():
				return ErrServerClosed
			}
			continue
		}
		pause = 0
		s.start(conn)
	}
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// start serves one connection in its own goroutine unless there are too many.
func (s *Server) start(conn net.Conn) {
	l := s.config.Limits
	s.mu.Lock()
	if s.closed || s.conns >= l.MaxConns || s.preAuth >= l.MaxPreAuth {
		refuse := !s.closed
		s.mu.Unlock()
		if refuse {
			s.logger.Warn("mail client refused: too many connections")
		}
		conn.Close()
		return
	}
	s.conns++
	s.preAuth++
	s.wg.Add(1)
	s.mu.Unlock()

	go func() {
		defer s.wg.Done()
		var once sync.Once
		loggedIn := func() {
			once.Do(func() {
				s.mu.Lock()
				s.preAuth--
				s.mu.Unlock()
			})
		}
		defer func() {
			loggedIn()
			s.mu.Lock()
			s.conns--
			s.mu.Unlock()
		}()
		if s.tls != nil {
			conn = tls.Server(session.NewBuffered(conn), s.tls)
		}
		session.Serve(s.ctx, conn, s.config, loggedIn)
	}()
}

// Shutdown stops the listeners, tells every client BYE, and waits for the
// connections to end or for ctx; then they are cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	for ln := range s.listeners {
		ln.Close()
	}
	s.mu.Unlock()
	s.cancel()

	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for mail clients: %w", ctx.Err())
	}
}

func isLoopback(a net.Addr) bool {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return false
}
