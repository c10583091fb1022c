package benchstate

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

const password = "correct horse battery staple"

// world is a key server in this process, and who uses it.
type world struct {
	b      *testing.B
	server *keyserver.Server
	now    time.Time
}

// meter counts what a device sends and is sent: bodies, without headers.
type meter struct {
	up, down, requests int
	large              int // of up, in bodies of 4 KiB and more
	log                []string
	w                  *world
}

func (m *meter) reset() { m.up, m.down, m.requests, m.large, m.log = 0, 0, 0, 0, nil }

// RoundTrip has the key server answer, without a network.
func (m *meter) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	in := httptest.NewRequest(r.Method, r.URL.String(), bytes.NewReader(body))
	in.Header, in.RemoteAddr = r.Header.Clone(), "192.0.2.1:1000"
	rec := httptest.NewRecorder()
	m.w.server.ServeHTTP(rec, in)
	m.requests++
	if len(body) >= 4<<10 {
		m.large += len(body)
	}
	m.up, m.down = m.up+len(body), m.down+rec.Body.Len()
	m.log = append(m.log, fmt.Sprintf("%s %s up %d down %d: %d", r.Method, r.URL.Path, len(body), rec.Body.Len(), rec.Code))
	answer := rec.Result()
	answer.Request = r
	return answer, nil
}

func newWorld(b *testing.B) *world {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "benchstate-") // the disk is not what is measured
	if err != nil {
		dir = b.TempDir()
	}
	store, err := boltstore.Open(filepath.Join(dir, "keyserver.db"))
	if err != nil {
		b.Fatal(err)
	}
	w := &world{b: b, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	limits := keyservertest.Unlimited()
	limits.Objects, limits.Accounts = 1_000_000, 2000
	limits.Inbox, limits.InboxFrom, limits.InboxBytes, limits.InboxBytesFrom = 1_000_000, 1_000_000, 8<<30, 8<<30
	w.server, err = keyserver.New(keyserver.Options{
		Store: store, Origin: keyservertest.Origin, TokenKey: keyservertest.TokenKey(), Pepper: keyservertest.Pepper(),
		Limits: limits, Now: w.clock,
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(w.server.Close(), store.Close(), os.RemoveAll(dir)); err != nil {
			b.Error(err)
		}
	})
	return w
}

func (w *world) clock() time.Time {
	w.now = w.now.Add(time.Millisecond)
	return w.now
}

func account(name string) cloudmls.Account {
	return cloudmls.Account{Platform: "chat", ID: name}
}

// device is a signed-in client with a meter.
type device struct {
	*cloudmls.Client
	*meter
	w    *world
	name string
	self cloudmls.Account
}

func (w *world) device(name string, open func(cloudmls.Options) (*cloudmls.Client, error)) *device {
	w.b.Helper()
	d := &device{meter: &meter{w: w}, w: w, name: name, self: account(name)}
	server, err := keyclient.New(keyclient.Options{URL: "https://keys.test.example", CBOR: true, HTTPClient: &http.Client{Transport: d.meter}})
	if err != nil {
		w.b.Fatal(err)
	}
	key := sha256.Sum256([]byte("vault key"))
	d.Client, err = open(cloudmls.Options{
		Server: server, Store: cloudmls.NewMemoryStore(), VaultKey: key[:], Origin: keyservertest.Origin,
		DeviceName: name, Now: w.clock,
	})
	if err != nil {
		w.b.Fatal(err)
	}
	w.b.Cleanup(func() {
		if err := d.Close(); err != nil {
			w.b.Error(err)
		}
	})
	return d
}

// user registers a user with one account.
func (w *world) user(name string) *device {
	w.b.Helper()
	d := w.device(name, func(o cloudmls.Options) (*cloudmls.Client, error) {
		c, _, err := cloudmls.Register(w.b.Context(), name, password, o)
		return c, err
	})
	if err := d.AddAccount(w.b.Context(), d.self); err != nil {
		w.b.Fatal(err)
	}
	return d
}

// sibling signs in with the password on a new device.
func (d *device) sibling() *device {
	d.w.b.Helper()
	s := d.w.device(d.name, func(o cloudmls.Options) (*cloudmls.Client, error) {
		return cloudmls.Open(d.w.b.Context(), d.name, password, o)
	})
	s.self = d.self
	return s
}

// crowd gives so many accounts, all of one user.
func (w *world) crowd(n int) []cloudmls.Account {
	w.b.Helper()
	d := w.device("crowd", func(o cloudmls.Options) (*cloudmls.Client, error) {
		o.KeyPackages = 1
		c, _, err := cloudmls.Register(w.b.Context(), "crowd", password, o)
		return c, err
	})
	var list []cloudmls.Account
	for i := range n {
		a := account(fmt.Sprintf("member %d", i))
		if err := d.AddAccount(w.b.Context(), a); err != nil {
			w.b.Fatal(err)
		}
		list = append(list, a)
	}
	return list
}

func (d *device) ensure(c cloudmls.Conversation) *cloudmls.ConversationState {
	d.w.b.Helper()
	s, err := d.Ensure(d.w.b.Context(), d.self, c)
	if err != nil {
		d.w.b.Fatal(err)
	}
	return s
}

func (d *device) group(members ...cloudmls.Account) cloudmls.ConversationID {
	d.w.b.Helper()
	id, err := groupid.New()
	if err != nil {
		d.w.b.Fatal(err)
	}
	d.ensure(cloudmls.Conversation{ID: id, Kind: cloudmls.KindGroup, Members: members})
	return id
}

func (d *device) encrypt(id cloudmls.ConversationID, text string) []byte {
	d.w.b.Helper()
	b, err := d.Encrypt(d.w.b.Context(), d.self, id, []byte(text), nil)
	if err != nil {
		d.w.b.Fatal(err)
	}
	return b
}

func (d *device) sync() {
	d.w.b.Helper()
	if _, err := d.Sync(d.w.b.Context(), d.self); err != nil {
		d.w.b.Fatal(err)
	}
}

func (d *device) decrypt(message []byte) {
	d.w.b.Helper()
	if _, err := d.Decrypt(d.w.b.Context(), d.self, message); err != nil {
		d.w.b.Fatal(err)
	}
}
