package smtpd

import (
	"context"
	"errors"
	"net"
)

// Server accepts submissions. Make one with [New].
type Server struct{ o Options }

// New checks the options and returns a server that does not listen yet.
func New(o Options) (*Server, error) {
	if o.Backend == nil {
		return nil, errors.New("smtpd: Options.Backend is nil")
	}
	return &Server{o: o}, nil
}

// Serve accepts connections on ln until Shutdown; then it returns nil. It
// closes ln.
func (s *Server) Serve(ln net.Listener) error { return errors.New("smtpd: not ready") }

// Shutdown stops accepting, closes idle connections, and waits for messages
// under way until ctx ends; then it closes what is left.
func (s *Server) Shutdown(ctx context.Context) error { return nil }
