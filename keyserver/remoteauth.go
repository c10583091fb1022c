package keyserver

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// HTTPClient is what RemoteAuth asks with; *http.Client is one.
type HTTPClient interface {
	Do(*http.Request) (*http.Response, error)
}

const (
	remoteTimeout  = 10 * time.Second
	remoteAnswer   = 64 << 10
	remoteKeysLive = 10 * time.Minute
	remoteAgain    = 5 * time.Second // between two questions for keys that are not known
	// sessionTrust is how long a session is taken to exist after the server
	// with the auth role said so: a logout counts here after it at the latest.
	sessionTrust  = 5 * time.Second
	sessionsKnown = 50_000
)

// remoteAuth asks the server with the auth role. What it cannot ask about is
// not let in. It is safe for concurrent use.
type remoteAuth struct {
	RemoteAuth
	now func() time.Time

	mu       sync.Mutex
	keys     map[string]ed25519.PublicKey
	loaded   time.Time
	asked    time.Time
	sessions map[Hash]knownSession // by hash of the token
}

type knownSession struct {
	state keyapi.SessionState
	until time.Time
}

func newRemoteAuth(a RemoteAuth, now func() time.Time) *remoteAuth {
	if a.Client == nil {
		a.Client = &http.Client{
			Timeout:       remoteTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	a.URL = strings.TrimRight(a.URL, "/")
	return &remoteAuth{RemoteAuth: a, now: now, sessions: map[Hash]knownSession{}}
}

// public finds a key. While the other server cannot be asked, keys that it
// named before count for remoteKeysLive.
func (a *remoteAuth) public(ctx context.Context, id string) (ed25519.PublicKey, error) {
	a.mu.Lock()
	now := a.now()
	k, fresh := a.keys[id], now.Sub(a.loaded) < remoteKeysLive
	again := a.asked.IsZero() || now.Sub(a.asked) >= remoteAgain || now.Before(a.asked)
	if (k == nil || !fresh) && again {
		a.asked = now
	}
	justOver := now.Sub(a.loaded) < remoteKeysLive+remoteAgain
	a.mu.Unlock()
	switch {
	case k != nil && (fresh || !again && justOver):
		return k, nil // at the end of the time somebody else asks at this moment
	case !again && fresh:
		return nil, nil // asked a moment ago: the key is not there
	case !again:
		return nil, errors.New("the server with the role auth was not reached a moment ago")
	}
	keys, err := a.fetchKeys(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil {
		a.asked = time.Time{}
		return nil, err
	}
	a.keys, a.loaded = keys, now
	return keys[id], nil
}

func (a *remoteAuth) fetchKeys(ctx context.Context) (map[string]ed25519.PublicKey, error) {
	var list keyapi.TokenKeys
	if _, err := a.get(ctx, "/v1/keys", "", &list); err != nil {
		return nil, err
	}
	if list.Issuer != a.Origin {
		return nil, errors.New("the server with the role auth has another origin than the configured one")
	}
	if len(list.Keys) > maxTokenKeys {
		return nil, errors.New("the server with the role auth names too many keys")
	}
	keys := map[string]ed25519.PublicKey{}
	for _, k := range list.Keys {
		public, err := k.Public()
		if err != nil {
			return nil, err
		}
		keys[k.KeyID] = public
	}
	return keys, nil
}

// session tells whether the session of a valid token exists; nil: no longer.
func (a *remoteAuth) session(ctx context.Context, id identity) (*keyapi.SessionState, error) {
	key := Hash(sha256.Sum256([]byte(id.token)))
	a.mu.Lock()
	known, ok := a.sessions[key]
	a.mu.Unlock()
	if ok && a.now().Before(known.until) {
		return &known.state, nil
	}
	var state keyapi.SessionState
	refused, err := a.get(ctx, "/v1/auth/session", id.token, &state)
	if err != nil {
		return nil, err
	}
	if refused {
		a.forget(key)
		return nil, nil
	}
	if string(state.UserID) != string(id.user[:]) || string(state.SessionID) != string(id.session[:]) {
		return nil, errors.New("the server with the role auth spoke of another session")
	}
	a.remember(key, state)
	return &state, nil
}

func (a *remoteAuth) forget(key Hash) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.sessions, key)
}

func (a *remoteAuth) remember(key Hash, state keyapi.SessionState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	if len(a.sessions) >= sessionsKnown { // ended ones first, then any
		for k, s := range a.sessions {
			if !now.Before(s.until) || len(a.sessions) >= sessionsKnown {
				delete(a.sessions, k)
			}
		}
	}
	a.sessions[key] = knownSession{state, now.Add(sessionTrust)}
}

// get asks and reads a JSON answer. refused: the server itself said that the
// token, or its session, is not valid.
func (a *remoteAuth) get(ctx context.Context, path, token string, answer any) (refused bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL+path, nil)
	if err != nil {
		return false, fmt.Errorf("ask the server with the role auth: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := a.Client.Do(req)
	if err != nil {
		return false, fmt.Errorf("ask the server with the role auth: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, remoteAnswer+1))
	if err != nil || len(b) > remoteAnswer {
		return false, fmt.Errorf("ask the server with the role auth: incomplete or too long an answer: %v", err)
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	if resp.StatusCode == http.StatusUnauthorized && kind == "application/problem+json" {
		var p keyapi.Problem
		if json.Unmarshal(b, &p) == nil && p.Code == keyapi.CodeUnauthorized && p.Status == resp.StatusCode {
			return true, nil
		}
	}
	if resp.StatusCode != http.StatusOK || kind != "application/json" {
		return false, fmt.Errorf("ask the server with the role auth: answer %d", resp.StatusCode)
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return false, errors.New("ask the server with the role auth: the answer is not the JSON expected")
	}
	return false, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// sessionState answers other nodes: the token that they were shown is valid,
// and its session exists. authenticate has looked.
func (s *Server) sessionState(ctx context.Context, _ *struct{}) (*output[keyapi.SessionState], error) {
	id := caller(ctx)
	return &output[keyapi.SessionState]{keyapi.SessionState{UserID: id.user[:], SessionID: id.session[:], Recovering: id.recovering}}, nil
}
