// Package keyserver is the CloudMLS key server: it publishes KeyPackages,
// decides which Commit opens an epoch, queues handshake messages until they are
// acknowledged, and keeps the users' sealed state. It can read neither mail nor
// state, and never sees a password.
//
// A Server is an http.Handler over a Store:
//
//	store, err := boltstore.Open("keyserver.db")
//	...
//	s, err := keyserver.New(keyserver.Options{
//		Store: store, Origin: "https://keys.example.org", Pepper: pepper,
//	})
//	...
//	h := keyserver.HTTPServer(s, log)
//	err = h.ServeTLS(s.Listener(listener), "", "")
//
// The wire types are those of package keyapi; /openapi.json describes every
// route. Who knows the database file alone can neither sign in as a user (the
// pepper is missing) nor use a refresh token (only hashes are stored).
package keyserver

import (
	"context"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

// TokenLifetime is how long an access token is valid by default.
const TokenLifetime = 10 * time.Minute

// Options of New. Store, Origin and Pepper are required.
type Options struct {
	Store Store // closed by the caller, after the Server
	// Roles that this server has; nil: all of them. Without RoleAuth, Auth
	// names the server that has it.
	Roles []Role
	Auth  *RemoteAuth
	// Origin is the configured name of the server, e.g.
	// "https://keys.example.org". Clients bind keys and signatures to it.
	Origin string
	// TokenKey signs access tokens; nil, as it should be: keys that the store
	// holds for all its processes, a new one every 30 days. With a TokenKey,
	// rotation is the operator's: RetiredTokenKeys are accepted still.
	TokenKey         ed25519.PrivateKey
	RetiredTokenKeys []ed25519.PublicKey
	TokenLifetime    time.Duration // zero: TokenLifetime
	// Pepper, at least 32 octets, enters what is stored of AUTH values and the
	// pretended parameters of unknown users. It is kept apart from the Store.
	Pepper []byte

	// Registration says who may become a user; empty: RegistrationOpen.
	Registration Registration

	// Browsers lets web pages sign in with cookies; see cookies.go. Origins
	// lists pages of other origins that may call the API at all (CORS), e.g.
	// "https://mail.example.org".
	Browsers bool
	Origins  []string

	// RequireProof lists the platforms whose account ids must be proven.
	// Without a Challenger for one of them its accounts cannot be claimed.
	RequireProof []string
	Challengers  map[string]Challenger // by platform

	// CipherSuites accepted in KeyPackages; nil: suite 1 of
	// RFC 9420, and the one with X-Wing.
	CipherSuites []mls.CipherSuite
	// CheckKeyPackage decides whether a KeyPackage, which is valid as such, may
	// be published for an account; nil: CheckLeafCert.
	CheckKeyPackage func(account keyapi.Account, identityKey []byte, kp *mls.KeyPackage) error

	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	Limits         Limits
	Logger         *slog.Logger // nil discards
	Now            func() time.Time
}

func (o *Options) check() error {
	switch {
	case o.Store == nil:
		return errors.New("options: Store is missing")
	case o.Origin == "":
		return errors.New("options: Origin is missing")
	case o.TokenKey != nil && len(o.TokenKey) != ed25519.PrivateKeySize:
		return errors.New("options: TokenKey is not an Ed25519 private key")
	case len(o.Pepper) < 32:
		return errors.New("options: Pepper is shorter than 32 octets")
	}
	if err := o.checkRoles(); err != nil {
		return err
	}
	if err := o.checkRegistration(); err != nil {
		return err
	}
	if err := o.checkOrigins(); err != nil {
		return err
	}
	if o.TokenKey == nil && len(o.RetiredTokenKeys) > 0 {
		return errors.New("options: RetiredTokenKeys are for servers with a TokenKey")
	}
	for _, k := range o.RetiredTokenKeys {
		if len(k) != ed25519.PublicKeySize {
			return errors.New("options: RetiredTokenKeys holds something else than an Ed25519 public key")
		}
	}
	for _, p := range o.RequireProof {
		if err := (keyapi.Account{Platform: p, ID: "x"}).Check(); err != nil {
			return fmt.Errorf("options: RequireProof: %w", err)
		}
	}
	orDefault(&o.TokenLifetime, TokenLifetime)
	if o.CipherSuites == nil {
		o.CipherSuites = []mls.CipherSuite{baseSuite, mls.MLS_128_XWING_AES128GCM_SHA256_Ed25519}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.CheckKeyPackage == nil {
		now := o.Now
		o.CheckKeyPackage = func(a keyapi.Account, identityKey []byte, kp *mls.KeyPackage) error {
			return CheckLeafCert(a, identityKey, kp, now())
		}
	}
	o.Limits = o.Limits.withDefaults()
	return nil
}

var _ http.Handler = (*Server)(nil)

// Server serves the key server's API. It is safe for concurrent use.
type Server struct {
	Options
	log         *slog.Logger
	tokens      *tokens
	authKey     []byte      // HMAC key of what is stored of AUTH values
	fakeKey     []byte      // HMAC key of pretended parameters
	hideKey     []byte      // HMAC key of names that must not lie about in clear
	remote      *remoteAuth // who knows the sessions; nil: this server
	mark        []byte      // of the pepper and the origin, kept with the first user
	handler     http.Handler
	waiting     *waiters
	large       largeGate
	open        openGate
	connections connections
	sendWindow  time.Duration

	guesses *guessGuard
	limits  struct{ signIn, registrations, refresh, claims, lookUps, commits, writes, challengesFrom *throttle }

	closeOnce   sync.Once
	closed      chan struct{}
	unsubscribe func() // from a Shared store
}

// New makes a server; it does not listen. The error names the bad option.
func New(o Options) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("make key server: %w", err)
	}
	s := &Server{
		Options: o, log: o.Logger, waiting: newWaiters(),
		guesses: newGuessGuard(), closed: make(chan struct{}), sendWindow: sendWindow,
	}
	var err error
	if s.authKey, err = hkdf.Key(sha256.New, o.Pepper, nil, "cloudmls/1 keyserver auth", 32); err != nil {
		return nil, fmt.Errorf("make key server: %w", err)
	}
	if s.fakeKey, err = hkdf.Key(sha256.New, o.Pepper, nil, "cloudmls/1 keyserver unknown user", 32); err != nil {
		return nil, fmt.Errorf("make key server: %w", err)
	}
	if s.hideKey, err = hkdf.Key(sha256.New, o.Pepper, nil, "cloudmls/1 keyserver hidden names", 32); err != nil {
		return nil, fmt.Errorf("make key server: %w", err)
	}
	if err := s.makeTokens(); err != nil {
		return nil, fmt.Errorf("make key server: %w", err)
	}
	if s.mark, err = hkdf.Key(sha256.New, o.Pepper, nil, "cloudmls/1 keyserver mark "+o.Origin, 32); err != nil {
		return nil, fmt.Errorf("make key server: %w", err)
	}
	if err := s.checkMark(); err != nil {
		return nil, fmt.Errorf("make key server: %w", err)
	}
	l := &s.limits
	l.signIn, l.refresh = newThrottle(o.Limits.SignIn), newThrottle(o.Limits.Refresh)
	l.claims, l.lookUps, l.commits = newThrottle(o.Limits.Claims), newThrottle(o.Limits.LookUps), newThrottle(o.Limits.Commits)
	l.writes = newThrottle(o.Limits.Writes)
	l.challengesFrom, l.registrations = newThrottle(o.Limits.ChallengesFrom), newThrottle(o.Limits.Registrations)
	if s.handler, err = s.routes(); err != nil {
		return nil, fmt.Errorf("make key server: %w", err)
	}
	s.unsubscribe = func() {}
	if shared, ok := s.Store.(Shared); ok {
		s.unsubscribe = shared.Subscribe(s.waiting)
	}
	return s, nil
}

// makeTokens decides where token keys come from.
func (s *Server) makeTokens() error {
	switch {
	case s.Auth != nil:
		s.remote = newRemoteAuth(*s.Auth, s.Now)
		s.tokens = newTokens(s.Auth.Origin, s.TokenLifetime, s.remote, s.Now)
	case s.TokenKey != nil:
		s.tokens = newTokens(s.Origin, s.TokenLifetime, newFixedKeys(&s.Options), s.Now)
	default:
		seal, err := hkdf.Key(sha256.New, s.Pepper, nil, "cloudmls/1 keyserver token keys "+s.Origin, 32)
		if err != nil {
			return err
		}
		s.tokens = newTokens(s.Origin, s.TokenLifetime, &keyRing{store: s.Store, seal: seal, now: s.Now}, s.Now)
	}
	return nil
}

// ErrOtherServer tells that a store has users of other keys or another origin.
// None of them could sign in: every password would look wrong.
var ErrOtherServer = errors.New("the store belongs to a server with other keys or another origin")

func (s *Server) checkMark() error {
	return s.Store.View(context.Background(), func(r Reader) error {
		have, err := r.Mark()
		if err == nil && have != nil && !hmac.Equal(have, s.mark) {
			err = ErrOtherServer
		}
		return err
	})
}

// keepMark binds the store to this server, once it has a user.
func (s *Server) keepMark(w Writer) error {
	have, err := w.Mark()
	if err == nil && have != nil && !hmac.Equal(have, s.mark) {
		err = ErrOtherServer // another process was faster, and has other keys
	}
	if err != nil || have != nil {
		return err
	}
	return w.PutMark(s.mark)
}

// Close ends long-polls with an empty answer and refuses further waiting.
// Other requests are served on; the http.Server decides about those.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		close(s.closed)
		s.unsubscribe()
	})
	return nil
}

// HTTPServer wraps a handler with the timeouts that the API needs: the longest
// requests are a 64 MiB transaction on a slow line and a long-poll, and a long
// answer lasts as long as it is taken at the least rate (sending.go). It serves a
// listener that Listener gave. What net/http says of connections names clients'
// addresses: log gets it at the debug level; nil discards.
func HTTPServer(h http.Handler, log *slog.Logger) *http.Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &http.Server{
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       bodyTimeout,
		WriteTimeout:      keyapi.MaxWaitSeconds*time.Second + bodyTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       markRefused,
		HTTP2:             http2Config(),
	}
}

const bodyTimeout = 2 * time.Minute

func (s *Server) newLogID() string {
	b := make([]byte, 6)
	rand.Read(b)
	return hex.EncodeToString(b)
}
