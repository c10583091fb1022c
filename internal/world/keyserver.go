package world

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
)

// Origin is the configured name of a world's key server.
const Origin = "https://keys.example.org"

// Intercept answers a request in place of the key server and returns true, or
// returns false to let it through.
type Intercept func(w http.ResponseWriter, r *http.Request) bool

// KeyServer is the world's key server, on a file.
type KeyServer struct {
	path     string
	tokenKey ed25519.PrivateKey
	pepper   []byte
	log      *slog.Logger
	now      func() time.Time

	mu        sync.Mutex
	addr      string // stays the same over restarts
	intercept Intercept
	running   *keyServerRun
}

type keyServerRun struct {
	http  *http.Server
	keys  *keyserver.Server
	store *boltstore.Store
	wg    sync.WaitGroup
}

func startKeyServer(o Options) (*KeyServer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	pepper := make([]byte, 32)
	if _, err := rand.Read(pepper); err != nil {
		return nil, err
	}
	k := &KeyServer{
		path: filepath.Join(o.Dir, "keyserver.db"), tokenKey: key, pepper: pepper,
		log: o.Logger, now: o.Now, addr: "127.0.0.1:0",
	}
	return k, k.Start()
}

// URL is where the key server listens, whether it runs or not.
func (k *KeyServer) URL() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return "http://" + k.addr
}

// Start starts the key server on its file and old address; it does nothing if
// it runs.
func (k *KeyServer) Start() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.running != nil {
		return nil
	}
	store, err := boltstore.Open(k.path)
	if err != nil {
		return fmt.Errorf("key server: %w", err)
	}
	s, err := keyserver.New(keyserver.Options{
		Store: store, Origin: Origin, TokenKey: k.tokenKey, Pepper: k.pepper, Logger: k.log, Now: k.now,
		Limits: unlimited(),
	})
	if err != nil {
		return errors.Join(fmt.Errorf("key server: %w", err), store.Close())
	}
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", k.addr)
	if err != nil {
		return errors.Join(fmt.Errorf("key server: %w", err), s.Close(), store.Close())
	}
	k.addr = ln.Addr().String()
	r := &keyServerRun{keys: s, store: store, http: &http.Server{Handler: k.handler(s), ReadHeaderTimeout: 10 * time.Second}}
	r.wg.Go(func() {
		if err := r.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			k.log.Warn("key server ended", "err", err)
		}
	})
	k.running = r
	return nil
}

// unlimited switches the rates off: everybody here comes from one address.
func unlimited() keyserver.Limits {
	off := keyserver.Rate{Burst: -1}
	return keyserver.Limits{
		SignIn: off, Refresh: off, Claims: off, LookUps: off, Commits: off, Challenges: off, ChallengesFrom: off,
	}
}

// Stop ends all connections and closes the file.
func (k *KeyServer) Stop() error {
	k.mu.Lock()
	r := k.running
	k.running = nil
	k.mu.Unlock()
	if r == nil {
		return nil
	}
	err := errors.Join(r.http.Close(), r.keys.Close())
	r.wg.Wait()
	return errors.Join(err, r.store.Close())
}

// Intercept replaces the answers of the key server; nil ends it.
func (k *KeyServer) Intercept(i Intercept) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.intercept = i
}

func (k *KeyServer) handler(s http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.mu.Lock()
		i := k.intercept
		k.mu.Unlock()
		if i == nil || !i(w, r) {
			s.ServeHTTP(w, r)
		}
	})
}

// Answer is an Intercept that gives every request the same answer.
func Answer(status int, contentType, body string) Intercept {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // a client that left needs no answer
		return true
	}
}

// HangUp is an Intercept that closes the connection of every request.
func HangUp(http.ResponseWriter, *http.Request) bool {
	panic(http.ErrAbortHandler)
}
