package state

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// evilServer is a key server in memory. It keeps the rules of package keyapi
// unless a test tells it to break them. It records every request's body.
type evilServer struct {
	mu      sync.Mutex
	users   map[string]*evilUser
	tokens  map[string]*evilUser // by access token
	refresh map[string]string    // access token → refresh token
	// recovering are access tokens that a recovery code gave.
	recovering map[string]bool
	done       map[[32]byte]keyapi.TxResult
	bodies     [][]byte // of requests, as JSON
	calls      map[string]int

	// What the server does wrong; nil: nothing. They run without the lock.
	fail      func(op string) error // before the request is carried out
	lose      func(op string) error // after it was carried out
	inParams  func(*keyapi.AuthParams)
	inIndex   func(*keyapi.ObjectIndex)
	inObjects func(*keyapi.ObjectList)
}

type evilUser struct {
	register keyapi.RegisterRequest
	objects  map[keyapi.ObjectID]keyapi.Object
	sessions map[string]ed25519.PublicKey // refresh token → device
}

func newEvil() *evilServer {
	return &evilServer{
		users: map[string]*evilUser{}, tokens: map[string]*evilUser{}, refresh: map[string]string{}, recovering: map[string]bool{},
		done: map[[32]byte]keyapi.TxResult{}, calls: map[string]int{},
	}
}

// clone copies the server's data, not its faults.
func (e *evilServer) clone() *evilServer {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := newEvil()
	c.refresh = maps.Clone(e.refresh)
	for name, u := range e.users {
		n := &evilUser{u.register, maps.Clone(u.objects), maps.Clone(u.sessions)}
		c.users[name] = n
		for t, o := range e.tokens {
			if o == u {
				c.tokens[t] = n
			}
		}
	}
	return c
}

// objects copies the user's objects; setObjects puts such a copy back.
func (e *evilServer) objects(name string) map[keyapi.ObjectID]keyapi.Object {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.users[name].objects)
}

func (e *evilServer) setObjects(name string, m map[keyapi.ObjectID]keyapi.Object) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.users[name].objects = maps.Clone(m)
}

func (e *evilServer) expireTokens() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.tokens)
}

func (e *evilServer) count(op string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls[op]
}

// sent is the number of octets in requests so far.
func (e *evilServer) sent() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.bodies {
		n += len(b)
	}
	return n
}

func problem(status int, code string) *keyapi.Problem {
	return &keyapi.Problem{Status: status, Code: code}
}

// enter records a call; the caller holds e.mu afterwards if err is nil.
func (e *evilServer) enter(op string, body any) error {
	if e.fail != nil {
		if err := e.fail(op); err != nil {
			return err
		}
	}
	e.mu.Lock()
	e.calls[op]++
	b, err := json.Marshal(body)
	if err != nil {
		e.mu.Unlock()
		return err
	}
	e.bodies = append(e.bodies, b)
	return nil
}

func (e *evilServer) leave(op string) error {
	e.mu.Unlock()
	if e.lose != nil {
		return e.lose(op)
	}
	return nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func (e *evilServer) session(u *evilUser, device ed25519.PublicKey) keyapi.Session {
	s := keyapi.Session{
		UserID: u.register.UserID, SessionID: random(16), AccessToken: "at-" + rand.Text(),
		RefreshToken: random(32), ExpiresAt: time.Now().Add(10 * time.Minute),
	}
	e.tokens[s.AccessToken], e.refresh[s.AccessToken] = u, string(s.RefreshToken)
	u.sessions[string(s.RefreshToken)] = device
	return s
}

func (e *evilServer) Params(_ context.Context, r keyapi.ParamsRequest) (p keyapi.AuthParams, err error) {
	if err := e.enter("params", r); err != nil {
		return p, err
	}
	if u := e.users[r.Username]; u != nil {
		p = keyapi.AuthParams{AuthVersion: 1, UserID: u.register.UserID, KDF: u.register.KDF, KDFTag: u.register.KDFTag}
	} else {
		p = keyapi.AuthParams{AuthVersion: 1, UserID: make([]byte, 16), KDF: keyapi.KDF{Algorithm: "argon2id", Salt: make([]byte, 16), Time: 3, MemoryKiB: 64 << 10, Threads: 4}}
	}
	err = e.leave("params")
	if e.inParams != nil {
		e.inParams(&p)
	}
	return p, err
}

func (e *evilServer) Register(_ context.Context, r keyapi.RegisterRequest) (s keyapi.Session, err error) {
	if err := e.enter("register", r); err != nil {
		return s, err
	}
	if e.users[r.Username] != nil {
		return s, errors.Join(problem(409, keyapi.CodeTaken), e.leave("register"))
	}
	r.Auth, r.RecoveryAuth = slices.Clone(r.Auth), slices.Clone(r.RecoveryAuth)
	u := &evilUser{register: r, objects: map[keyapi.ObjectID]keyapi.Object{}, sessions: map[string]ed25519.PublicKey{}}
	e.users[r.Username] = u
	s = e.session(u, r.Device.Key)
	return s, e.leave("register")
}

func (e *evilServer) Login(_ context.Context, r keyapi.LoginRequest) (s keyapi.Session, err error) {
	if err := e.enter("login", r); err != nil {
		return s, err
	}
	u := e.users[r.Username]
	if u == nil || string(u.register.Auth) != string(r.Auth) {
		return s, errors.Join(problem(401, keyapi.CodeUnauthorized), e.leave("login"))
	}
	s = e.session(u, r.Device.Key)
	return s, e.leave("login")
}

func (e *evilServer) Recover(_ context.Context, r keyapi.RecoverRequest) (s keyapi.Session, err error) {
	if err := e.enter("recover", r); err != nil {
		return s, err
	}
	u := e.users[r.Username]
	if u == nil || string(u.register.RecoveryAuth) != string(r.RecoveryAuth) {
		return s, errors.Join(problem(401, keyapi.CodeUnauthorized), e.leave("recover"))
	}
	s = e.session(u, r.Device.Key)
	e.recovering[s.AccessToken] = true
	return s, e.leave("recover")
}

func (e *evilServer) ChangePassword(_ context.Context, token string, r keyapi.PasswordRequest) (keyapi.TxResult, error) {
	u, err := e.as("password", token, r)
	if err != nil {
		return keyapi.TxResult{}, err
	}
	refuse := func(p error) (keyapi.TxResult, error) {
		if err := e.leave("password"); err != nil {
			return keyapi.TxResult{}, err
		}
		return keyapi.TxResult{}, p
	}
	switch {
	case e.recovering[token] != (len(r.OldAuth) == 0), len(r.OldAuth) == 0 && len(r.RecoveryAuth) == 0, len(r.Tx.Put) == 0:
		return refuse(problem(400, keyapi.CodeInvalid))
	case len(r.OldAuth) > 0 && string(r.OldAuth) != string(u.register.Auth):
		return refuse(problem(403, keyapi.CodeForbidden))
	}
	if p := u.apply(r.Tx); p != nil {
		return refuse(p)
	}
	u.register.KDF, u.register.KDFTag, u.register.Auth = r.KDF, r.KDFTag, slices.Clone(r.Auth)
	if len(r.RecoveryAuth) > 0 {
		u.register.RecoveryAuth = slices.Clone(r.RecoveryAuth)
	}
	delete(e.recovering, token)
	for t, o := range e.tokens {
		if o == u && t != token {
			delete(u.sessions, e.refresh[t])
			delete(e.tokens, t)
		}
	}
	for refresh := range u.sessions {
		if refresh != e.refresh[token] {
			delete(u.sessions, refresh)
		}
	}
	return keyapi.TxResult{Applied: true}, e.leave("password")
}

func (e *evilServer) Refresh(_ context.Context, r keyapi.RefreshRequest) (s keyapi.Session, err error) {
	if err := e.enter("refresh", r); err != nil {
		return s, err
	}
	for _, u := range e.users {
		if d, ok := u.sessions[string(r.RefreshToken)]; ok && ed25519.Verify(d, keyapi.RefreshSigningInput(origin, r), r.Signature) {
			s = e.session(u, d)
			return s, e.leave("refresh")
		}
	}
	return s, errors.Join(problem(401, keyapi.CodeUnauthorized), e.leave("refresh"))
}

// as enters a call that needs a token.
func (e *evilServer) as(op, token string, body any) (*evilUser, error) {
	if err := e.enter(op, body); err != nil {
		return nil, err
	}
	u := e.tokens[token]
	if u == nil {
		e.mu.Unlock()
		return nil, problem(401, keyapi.CodeUnauthorized)
	}
	return u, nil
}

func (e *evilServer) Logout(_ context.Context, token string) error {
	u, err := e.as("logout", token, nil)
	if err != nil {
		return err
	}
	delete(e.tokens, token)
	delete(u.sessions, e.refresh[token])
	return e.leave("logout")
}

func (e *evilServer) ObjectIndex(ctx context.Context, token string) (keyapi.ObjectIndex, error) {
	var all keyapi.Buckets
	for i := range keyapi.BucketCount {
		all.Add(i)
	}
	return e.ObjectIndexOf(ctx, token, all)
}

func (e *evilServer) ObjectIndexOf(_ context.Context, token string, buckets keyapi.Buckets) (x keyapi.ObjectIndex, err error) {
	u, err := e.as("index", token, nil)
	if err != nil {
		return x, err
	}
	x.Objects = []keyapi.ObjectVersion{}
	for _, o := range u.objects {
		if !buckets.Has(o.ID.Bucket()) {
			continue
		}
		h := sha256.Sum256(o.Data)
		x.Objects = append(x.Objects, keyapi.ObjectVersion{ID: o.ID, Counter: o.Counter, Hash: h[:], Size: len(o.Data)})
	}
	err = e.leave("index")
	if e.inIndex != nil {
		e.inIndex(&x)
	}
	return x, err
}

func (e *evilServer) Objects(_ context.Context, token string, ids []keyapi.ObjectID) (keyapi.ObjectList, error) {
	return e.list(token, ids, nil)
}

func (e *evilServer) ObjectUnless(_ context.Context, token string, id keyapi.ObjectID, hash [32]byte) (keyapi.ObjectList, error) {
	return e.list(token, []keyapi.ObjectID{id}, hash[:])
}

func (e *evilServer) list(token string, ids []keyapi.ObjectID, known []byte) (l keyapi.ObjectList, err error) {
	u, err := e.as("objects", token, ids)
	if err != nil {
		return l, err
	}
	for _, id := range ids {
		if o, ok := u.objects[id]; ok {
			if h := sha256.Sum256(o.Data); bytes.Equal(h[:], known) {
				l.Unchanged = append(l.Unchanged, id)
				continue
			}
			o.Data = slices.Clone(o.Data)
			l.Objects = append(l.Objects, o)
		} else {
			l.Missing = append(l.Missing, id)
		}
	}
	err = e.leave("objects")
	if e.inObjects != nil {
		e.inObjects(&l)
	}
	return l, err
}

func (e *evilServer) Tx(_ context.Context, token string, tx keyapi.Tx) (keyapi.TxResult, error) {
	u, err := e.as("tx", token, tx)
	if err != nil {
		return keyapi.TxResult{}, err
	}
	sum := sha256.Sum256(append(e.bodies[len(e.bodies)-1], u.register.UserID...))
	if r, ok := e.done[sum]; ok {
		return r, e.leave("tx")
	}
	if p := u.apply(tx); p != nil {
		if err := e.leave("tx"); err != nil {
			return keyapi.TxResult{}, err
		}
		return keyapi.TxResult{}, p
	}
	r := keyapi.TxResult{Applied: true}
	if tx.Commit != nil {
		r.Epoch = tx.Commit.Epoch + 1
	}
	e.done[sum] = r
	return r, e.leave("tx")
}

func (u *evilUser) apply(tx keyapi.Tx) error {
	p := problem(409, keyapi.CodeConflict)
	compare := func(id keyapi.ObjectID, want uint64) {
		if c := u.objects[id].Counter; c != want {
			p.Have = append(p.Have, keyapi.Expect{ID: id, Counter: c})
		}
	}
	for _, x := range tx.Expect {
		compare(x.ID, x.Counter)
	}
	for _, x := range tx.Delete {
		compare(x.ID, x.Counter)
	}
	for _, x := range tx.Put {
		compare(x.ID, x.Counter-1)
	}
	if len(p.Have) > 0 {
		return p
	}
	for _, x := range tx.Put {
		u.objects[x.ID] = x
	}
	for _, x := range tx.Delete {
		delete(u.objects, x.ID)
	}
	return nil
}

// lastTx is the body of the transaction sent last.
func (e *evilServer) lastTx(t *testing.T) (tx keyapi.Tx) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range slices.Backward(e.bodies) {
		var m map[string]json.RawMessage
		if json.Unmarshal(b, &m) != nil || m["put"] == nil && m["ack"] == nil && m["expect"] == nil {
			continue
		}
		if err := json.Unmarshal(b, &tx); err != nil {
			t.Fatal(err)
		}
		return tx
	}
	t.Fatal("no transaction was sent")
	return tx
}

// last decodes the body of the latest request that has this member.
func (e *evilServer) last(t *testing.T, member string, out any) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range slices.Backward(e.bodies) {
		var m map[string]json.RawMessage
		if json.Unmarshal(b, &m) == nil && m[member] != nil {
			if err := json.Unmarshal(b, out); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatalf("no request with %q was sent", member)
}
