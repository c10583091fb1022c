package smtpd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"

	"github.com/emersion/go-smtp"
)

// alpn is the only protocol that a TLS client may name; a browser names
// others and is refused in the handshake.
const alpn = "smtp"

// Server accepts submissions. Make one with [New]. Its methods are safe for
// concurrent use.
type Server struct {
	o        Options
	timeouts Timeouts
	log      *slog.Logger
	tls      *tls.Config
	throttle *throttle
	smtp     *smtp.Server
	live     liveSessions
	ctx      context.Context // ends at the end of Shutdown
	cancel   context.CancelFunc

	mu        sync.Mutex
	stopped   bool
	listeners []*listener
}

// New checks the options and returns a server that does not listen yet.
func New(o Options) (*Server, error) {
	if o.Backend == nil {
		return nil, errors.New("smtpd: Options.Backend is nil")
	}
	if o.MaxMessageBytes < 0 {
		return nil, errors.New("smtpd: Options.MaxMessageBytes is negative")
	}
	if strings.ContainsFunc(o.Hostname, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, errors.New("smtpd: Options.Hostname is no host name")
	}
	s := &Server{o: o, timeouts: o.Timeouts.withDefaults(), log: o.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.throttle = newThrottle(s.timeouts.FailedLogin)
	if o.TLSConfig != nil {
		s.tls = o.TLSConfig.Clone()
		s.tls.NextProtos = []string{alpn}
		s.tls.MinVersion = max(s.tls.MinVersion, tls.VersionTLS12)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.smtp = s.newSMTP()
	return s, nil
}

func (s *Server) newSMTP() *smtp.Server {
	srv := smtp.NewServer(smtp.BackendFunc(s.newSession))
	srv.Domain = s.o.Hostname
	if srv.Domain == "" {
		srv.Domain = "localhost"
	}
	srv.MaxMessageBytes = s.o.MaxMessageBytes
	if srv.MaxMessageBytes == 0 {
		srv.MaxMessageBytes = DefaultMaxMessageBytes
	}
	srv.MaxRecipients = MaxRecipients
	srv.MaxLineLength = MaxLineLength
	// TLS, where there is any, is the listener's: go-smtp sees clear octets,
	// and a plain listener exists on loopback only.
	srv.AllowInsecureAuth = true
	// EHLO comes before the login, so the offer cannot depend on the provider;
	// MAIL refuses what the provider does not take.
	srv.EnableSMTPUTF8 = announced("SMTPUTF8")
	srv.EnableDSN = announced("DSN")
	srv.ErrorLog = libraryLog{s.log}
	// ReadTimeout stays 0: it would limit a whole message. See guard.
	return srv
}

func (s *Server) newSession(c *smtp.Conn) (smtp.Session, error) {
	g, ok := c.Conn().(*guard)
	if !ok {
		return nil, errors.New("connection is not from the guarded listener")
	}
	ctx, cancel := context.WithCancel(s.ctx)
	n := &session{server: s, guard: g, log: s.log.With("conn", newID()), ctx: ctx, cancel: cancel}
	s.live.enter(n)
	return n, nil
}

// Serve accepts connections on ln, which must listen on a loopback address or
// a Unix socket, until Shutdown; then it returns nil. It closes ln.
func (s *Server) Serve(ln net.Listener) error {
	if err := checkAddress(ln.Addr()); err != nil {
		return errors.Join(err, ln.Close())
	}
	l := newListener(ln, s.tls, s.timeouts)
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return errors.Join(smtp.ErrServerClosed, ln.Close())
	}
	s.listeners = append(s.listeners, l)
	s.mu.Unlock()
	err := s.smtp.Serve(l)
	s.mu.Lock()
	stopped := s.stopped
	s.mu.Unlock()
	if err != nil && !stopped {
		return fmt.Errorf("smtpd: accept: %w", errors.Join(err, ln.Close()))
	}
	return nil
}

// Shutdown stops accepting, closes connections on which no message is under
// way, and waits for the others until ctx ends; then it closes them and
// returns the error of ctx. What was under way then was refused with 451 or,
// if the provider had it already, reported as unconfirmed.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.cancel()
	s.mu.Lock()
	s.stopped = true
	for _, l := range s.listeners {
		l.drain()
	}
	s.mu.Unlock()
	err := s.smtp.Shutdown(ctx)
	if errors.Is(err, smtp.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	if err == nil || ctx.Err() == nil {
		return err
	}
	// Sessions see their context end; closing the connections ends reads.
	s.cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		l.closeAll()
	}
	return err
}

// libraryLog takes what go-smtp reports: broken connections of clients. It
// stands at debug level because the text may hold what a client sent.
type libraryLog struct{ log *slog.Logger }

// Printf implements smtp.Logger.
func (l libraryLog) Printf(format string, args ...any) {
	l.log.Debug("smtp library", "text", fmt.Sprintf(format, args...))
}

// Println implements smtp.Logger.
func (l libraryLog) Println(args ...any) { l.log.Debug("smtp library", "text", fmt.Sprint(args...)) }
