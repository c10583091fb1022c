package evil

import (
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// Options of NewServer; zero fields suit most tests.
type Options struct {
	// Server is passed to keyserver.New. Store must be nil: it is this
	// package's.
	Server keyserver.Options
}

// Server is a key server in the hands of somebody evil. Without attacks it is an
// honest one. It is safe for concurrent use.
type Server struct {
	*keyservertest.Server
	Middle

	tb      testing.TB
	dir     string
	options keyserver.Options
	main    *boltstore.Store

	mu    sync.Mutex
	forks []*world
	seen  map[string]*world // by device; none: the main one
	log   []*Exchange
}

// NewServer starts a server and stops it when the test ends.
func NewServer(tb testing.TB, o Options) *Server {
	tb.Helper()
	s := &Server{tb: tb, dir: tb.TempDir(), seen: map[string]*world{}}
	var err error
	if s.main, err = boltstore.Open(s.file(0)); err != nil {
		tb.Fatalf("start evil key server: %v", err)
	}
	tb.Cleanup(func() { // after the server is gone
		if err := s.main.Close(); err != nil {
			tb.Errorf("close store: %v", err)
		}
	})
	s.options = defaults(o.Server)
	s.options.Store = s.main
	s.Server = keyservertest.NewServer(tb, keyservertest.Options{Server: s.options, Wrap: s.wrap})
	return s
}

func (s *Server) file(n int) string {
	return filepath.Join(s.dir, "keyserver"+strings.Repeat("-fork", n)+".db")
}

const devicePath = "/device/"

// URLOf is where a device of this name asks.
func (s *Server) URLOf(device string) string { return s.URL + devicePath + device }

// Client makes a client for a device, by whose name From and Fork know it. It is
// closed with the test.
func (s *Server) Client(device string) *keyclient.Client {
	s.tb.Helper()
	c, err := keyclient.New(keyclient.Options{URL: s.URLOf(device)})
	if err != nil {
		s.tb.Fatalf("make key server client: %v", err)
	}
	s.tb.Cleanup(c.Close)
	return c
}

// wrap puts the man in the middle before the honest server.
func (s *Server) wrap(honest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e, err := receive(r)
		if err != nil {
			panic(http.ErrAbortHandler) // the client went away
		}
		next := honest
		s.mu.Lock()
		if fork := s.seen[e.Device]; fork != nil {
			next = fork.handler
		}
		s.mu.Unlock()
		s.Pass(e, func() { e.Serve(next) })
		s.mu.Lock()
		s.log = append(s.log, e)
		s.mu.Unlock()
		e.send(w)
	})
}

// Log gives the exchanges that have ended, in the order of their ends. They are
// the caller's to read, not to change.
func (s *Server) Log() []*Exchange {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*Exchange(nil), s.log...)
}

// ClearLog forgets them.
func (s *Server) ClearLog() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = nil
}

// Count tells how many exchanges of the log match.
func (s *Server) Count(m Match) int {
	n := 0
	for _, e := range s.Log() {
		if m(e) {
			n++
		}
	}
	return n
}
