// Package keyservertest runs a key server for tests, in the manner of
// net/http/httptest: on loopback, over a bbolt file in a temporary folder.
//
//	ks := keyservertest.NewServer(t, keyservertest.Options{})
//	client := ks.Client()
package keyservertest

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// Origin is the configured name of every test server. It is not its URL.
const Origin = "https://keys.test.example"

// Unlimited switches all rates off and keeps the other limits' defaults.
func Unlimited() keyserver.Limits {
	off := keyserver.Rate{Burst: -1}
	return keyserver.Limits{
		SignIn: off, Registrations: off, Refresh: off, Claims: off, LookUps: off, Commits: off, Writes: off, Challenges: off, ChallengesFrom: off,
	}
}

// Options of NewServer; zero fields suit most tests.
type Options struct {
	// Server is passed to keyserver.New with Store, Origin, TokenKey and Pepper
	// filled in where they are missing. Zero Limits mean Unlimited.
	Server keyserver.Options
	// RotateKeys leaves the keys of access tokens to the server, as an operator
	// should. Otherwise it is TokenKey.
	RotateKeys bool
	// Path of the bbolt file; empty: in tb.TempDir.
	Path string
	// Wrap, if set, goes around the handler: the place for faults.
	Wrap func(http.Handler) http.Handler
}

// Server is a running key server.
type Server struct {
	URL    string
	Origin string
	// Path is the store's file.
	Path string
	// Handler answers what arrives at URL.
	Handler *keyserver.Server

	tb     testing.TB
	http   *http.Server
	store  *boltstore.Store
	served chan error
	close  sync.Once
}

// NewServer starts a server and stops it when the test ends.
func NewServer(tb testing.TB, o Options) *Server {
	tb.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(tb.TempDir(), "keyserver.db")
	}
	s := &Server{tb: tb, Origin: Origin, Path: o.Path, served: make(chan error, 1)}
	var err error
	so := o.Server
	if so.Store == nil {
		if s.store, err = boltstore.Open(o.Path); err != nil {
			tb.Fatalf("start key server: %v", err)
		}
		so.Store = s.store
	}
	if so.Origin == "" {
		so.Origin = Origin
	}
	s.Origin = so.Origin
	if so.TokenKey == nil && !o.RotateKeys && so.Auth == nil {
		so.TokenKey = TokenKey()
	}
	if so.Pepper == nil {
		so.Pepper = Pepper()
	}
	if so.Limits == (keyserver.Limits{}) {
		so.Limits = Unlimited()
	}
	if s.Handler, err = keyserver.New(so); err != nil {
		tb.Fatalf("start key server: %v", err)
	}
	var h http.Handler = s.Handler
	if o.Wrap != nil {
		h = o.Wrap(h)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("start key server: %v", err)
	}
	s.URL = "http://" + ln.Addr().String()
	s.http = keyserver.HTTPServer(h, nil)
	go func() { s.served <- s.http.Serve(s.Handler.Listener(ln)) }()
	tb.Cleanup(s.Close)
	return s
}

// TokenKey and Pepper are the same in all test servers, so that one can be
// stopped and another started on its file.
func TokenKey() ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("key server test: token key"))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Pepper is for tests only.
func Pepper() []byte {
	p := sha256.Sum256([]byte("key server test: pepper"))
	return p[:]
}

// Close stops the server: long-polls end, requests under way are answered, the
// store is closed. The test calls it only where it wants the server gone early.
func (s *Server) Close() {
	s.close.Do(func() {
		if err := s.Handler.Close(); err != nil {
			s.tb.Errorf("stop key server: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.http.Shutdown(ctx); err != nil {
			s.tb.Errorf("stop key server: %v", err)
		}
		if err := <-s.served; !errors.Is(err, http.ErrServerClosed) {
			s.tb.Errorf("serve: %v", err)
		}
		if s.store != nil {
			if err := s.store.Close(); err != nil {
				s.tb.Errorf("close key server store: %v", err)
			}
		}
	})
}

// Client makes a client of this server; it is closed with the test.
func (s *Server) Client() *keyclient.Client {
	s.tb.Helper()
	c, err := keyclient.New(keyclient.Options{URL: s.URL})
	if err != nil {
		s.tb.Fatalf("make key server client: %v", err)
	}
	s.tb.Cleanup(c.Close)
	return c
}
