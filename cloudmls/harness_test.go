package cloudmls

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// clock is what everybody in a world sees.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(time.Millisecond) // so that "newest" has an answer
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// exchange is one request and its answer.
type exchange struct {
	request  *http.Request
	sent     []byte // body of the request
	status   int
	answered []byte
	header   string // Content-Type of the answer; "" leaves it
	next     http.Handler
}

// carryOut lets the server answer, as if the request had been on its way until now.
// Nobody hears the answer; its status is given.
func (e *exchange) carryOut() int {
	r := e.request.Clone(context.WithoutCancel(e.request.Context()))
	r.Body = io.NopCloser(bytes.NewReader(e.sent))
	rec := httptest.NewRecorder()
	e.next.ServeHTTP(rec, r)
	return rec.Code
}

func (e *exchange) is(method, prefix string) bool {
	return e.request.Method == method && strings.HasPrefix(e.request.URL.Path, prefix)
}

// wire stands between clients and the key server. It records, and it may fail
// requests or tamper with answers.
type wire struct {
	mu     sync.Mutex
	log    []*exchange
	before func(e *exchange) bool // true: answered already (status, answered)
	after  func(e *exchange)      // may change status and answered
}

func (w *wire) set(before func(*exchange) bool, after func(*exchange)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before, w.after = before, after
}

// count tells how many requests matched since reset.
func (w *wire) count(method, prefix string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, e := range w.log {
		if e.is(method, prefix) {
			n++
		}
	}
	return n
}

func (w *wire) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = nil
}

func (w *wire) requests() []*exchange {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*exchange(nil), w.log...)
}

func (w *wire) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		e := &exchange{request: r, sent: body, next: next}
		w.mu.Lock()
		before, after := w.before, w.after
		w.mu.Unlock()
		header := http.Header{}
		if before == nil || !before(e) {
			rec := httptest.NewRecorder()
			next.ServeHTTP(rec, r)
			e.status, e.answered, header = rec.Code, rec.Body.Bytes(), rec.Header()
			if after != nil {
				after(e)
			}
		}
		w.mu.Lock()
		w.log = append(w.log, e)
		w.mu.Unlock()
		if e.status == 0 { // as if the network died
			panic(http.ErrAbortHandler)
		}
		for k, v := range header {
			rw.Header()[k] = v
		}
		if e.header != "" {
			rw.Header().Set("Content-Type", e.header)
		}
		rw.Header().Set("Content-Length", strconv.Itoa(len(e.answered)))
		if e.status == http.StatusNoContent {
			rw.Header().Del("Content-Length")
		}
		rw.WriteHeader(e.status)
		rw.Write(e.answered)
	})
}

// world is a key server and everybody who uses it.
type world struct {
	t     *testing.T
	clock *clock
	wire  *wire
	ks    *keyservertest.Server
	dial  func() Server // nil: ks has all roles
	// dialStore reaches stores of users' own; nil: there are none.
	dialStore func(ctx context.Context, origin string) (StoreServer, error)
	pause     func(ctx context.Context, d time.Duration) error // nil: with a timer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldWith(t, keyserver.Options{})
}

func newWorldWith(t *testing.T, o keyserver.Options) *world {
	t.Helper()
	w := &world{t: t, clock: &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, wire: &wire{}}
	o.Now = w.clock.now
	w.ks = keyservertest.NewServer(t, keyservertest.Options{Server: o, Wrap: w.wire.wrap})
	return w
}

const password = "correct horse battery staple"

// device is one installation of a user with one account.
type device struct {
	*Client
	w        *world
	t        *testing.T
	username string
	self     Account
	store    LocalStore
}

func (w *world) options(store LocalStore) Options {
	key := sha256.Sum256([]byte("vault key"))
	var server Server = w.ks.Client()
	if w.dial != nil {
		server = w.dial()
	}
	return Options{
		Server: server, Store: store, VaultKey: key[:], Origin: w.ks.Origin,
		DeviceName: "test", Now: w.clock.now, DialStore: w.dialStore, pause: w.pause,
	}
}

func account(name string) Account {
	return Account{Platform: PlatformEmail, ID: name + "@example.org"}
}

// user registers a user with one account on a first device.
func (w *world) user(name string) *device {
	w.t.Helper()
	d := &device{w: w, t: w.t, username: name + "-user", self: account(name), store: NewMemoryStore()}
	c, recovery, err := Register(w.t.Context(), d.username, password, w.options(d.store))
	if err != nil {
		w.t.Fatalf("register %s: %v", name, err)
	}
	if recovery.Code == "" {
		w.t.Fatal("no recovery code")
	}
	d.Client = c
	w.t.Cleanup(func() { d.Close() })
	if err := c.AddAccount(w.t.Context(), d.self); err != nil {
		w.t.Fatalf("add account of %s: %v", name, err)
	}
	return d
}

// sibling signs in on another device, with the password alone.
func (d *device) sibling() *device {
	d.t.Helper()
	s := &device{w: d.w, t: d.t, username: d.username, self: d.self, store: NewMemoryStore()}
	c, err := Open(d.t.Context(), d.username, password, d.w.options(s.store))
	if err != nil {
		d.t.Fatalf("sign in: %v", err)
	}
	s.Client = c
	d.t.Cleanup(func() { s.Close() })
	return s
}

// crash drops the client as kill -9 would, and resumes from the local store.
func (d *device) crash() {
	d.t.Helper()
	d.Close()
	c, err := Resume(d.t.Context(), d.w.options(d.store))
	if err != nil {
		d.t.Fatalf("resume: %v", err)
	}
	d.Client = c
	d.t.Cleanup(func() { c.Close() })
}

func (d *device) ensureDialog(peer *device) ConversationID {
	d.t.Helper()
	s, err := d.Ensure(d.t.Context(), d.self, Conversation{Kind: KindDialog, Members: []Account{peer.self}})
	if err != nil {
		d.t.Fatalf("%s: dialog with %s: %v", d.self, peer.self, err)
	}
	return s.ID
}

func newID(t *testing.T) ConversationID {
	t.Helper()
	id, err := groupid.New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func accounts(devices ...*device) []Account {
	var list []Account
	for _, d := range devices {
		list = append(list, d.self)
	}
	return list
}

func (d *device) ensureGroup(id ConversationID, members ...*device) *ConversationState {
	d.t.Helper()
	s, err := d.Ensure(d.t.Context(), d.self, Conversation{ID: id, Kind: KindGroup, Members: accounts(members...)})
	if err != nil {
		d.t.Fatalf("%s: group: %v", d.self, err)
	}
	return s
}

// newPair is a world with Alice and Bob in a group that she made.
func newPair(t *testing.T) (w *world, alice, bob *device, id ConversationID) {
	t.Helper()
	w = newWorld(t)
	alice, bob, id = w.user("alice"), w.user("bob"), newID(t)
	alice.ensureGroup(id, bob)
	bob.cleanSync()
	return w, alice, bob, id
}

// newTrio is newPair with Carol.
func newTrio(t *testing.T) (w *world, alice, bob, carol *device, id ConversationID) {
	t.Helper()
	w = newWorld(t)
	alice, bob, carol, id = w.user("alice"), w.user("bob"), w.user("carol"), newID(t)
	alice.ensureGroup(id, bob, carol)
	bob.cleanSync()
	carol.cleanSync()
	return w, alice, bob, carol, id
}

func (d *device) mustSync() SyncResult {
	d.t.Helper()
	r, err := d.Sync(d.t.Context(), d.self)
	if err != nil {
		d.t.Fatalf("%s: sync: %v", d.self, err)
	}
	return r
}

// cleanSync is mustSync without problems.
func (d *device) cleanSync() SyncResult {
	d.t.Helper()
	r := d.mustSync()
	if len(r.Problems) != 0 {
		d.t.Fatalf("%s: sync: problems %+v", d.self, r.Problems)
	}
	return r
}

func (d *device) encrypt(id ConversationID, text string) []byte {
	d.t.Helper()
	b, err := d.Encrypt(d.t.Context(), d.self, id, []byte(text), nil)
	if err != nil {
		d.t.Fatalf("%s: encrypt: %v", d.self, err)
	}
	if len(text) > 4 && bytes.Contains(b, []byte(text)) {
		d.t.Fatalf("%s: the ciphertext holds the plaintext", d.self)
	}
	return b
}

func (d *device) decrypt(message []byte) *Plaintext {
	d.t.Helper()
	p, err := d.Decrypt(d.t.Context(), d.self, message)
	if err != nil {
		d.t.Fatalf("%s: decrypt: %v", d.self, err)
	}
	return p
}

// reads checks that a message opens, verified, as sent.
func (d *device) reads(message []byte, text string, from *device) *Plaintext {
	d.t.Helper()
	p := d.decrypt(message)
	if string(p.Data) != text {
		d.t.Fatalf("%s: got %q, want %q", d.self, p.Data, text)
	}
	if p.Sender != from.self || p.Own != (from.self == d.self) {
		d.t.Fatalf("%s: sender %s own %v, want %s", d.self, p.Sender, p.Own, from.self)
	}
	if !p.Verified || len(p.Warnings) != 0 {
		d.t.Fatalf("%s: verified %v, warnings %v", d.self, p.Verified, p.Warnings)
	}
	return p
}

// cannotRead checks that a message never opens, for this reason.
func (d *device) cannotRead(message []byte, reason NeverReason) {
	d.t.Helper()
	p, err := d.Decrypt(d.t.Context(), d.self, message)
	var never *NeverError
	if !errors.As(err, &never) || never.Reason != reason {
		d.t.Fatalf("%s: got %v, %v; want NeverError %q", d.self, p, err, reason)
	}
}

func (d *device) state(id ConversationID) *ConversationState {
	d.t.Helper()
	s, err := d.Conversation(d.t.Context(), d.self, id)
	if err != nil {
		d.t.Fatalf("%s: conversation: %v", d.self, err)
	}
	return s
}

func decodeJSON[T any](t *testing.T, b []byte) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("decode %T: %v", v, err)
	}
	return v
}

func encodeJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
