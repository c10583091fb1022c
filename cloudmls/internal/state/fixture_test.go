package state

import (
	"context"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

const (
	origin   = "https://keys.test"
	username = "alice"
	password = "Grüße, 日本 and 12 more"
)

// shared is a server with one user who has two devices; making one costs two
// runs of Argon2 at full strength, so tests work on copies.
type fixture struct {
	server   *evilServer
	local    [2]*memory
	vault    [2][]byte
	recovery string
	plain    bool    // the server cannot be asked for what changed alone
	asked    *asking // if set, in front of the server
}

var shared = sync.OnceValues(func() (*fixture, error) {
	f := &fixture{server: newEvil()}
	for i := range f.local {
		f.local[i] = NewMemory().(*memory)
		f.vault[i] = random(32)
	}
	s, code, err := Register(context.Background(), username, password, f.config(0))
	if err != nil {
		return nil, err
	}
	f.recovery = code
	if _, err := s.Refresh(context.Background()); err != nil {
		return nil, err
	}
	_, err = Open(context.Background(), username, password, f.config(1))
	return f, err
})

func (f *fixture) config(device int) Config {
	var server Server = f.server
	switch {
	case f.plain:
		server = struct{ Server }{f.server}
	case f.asked != nil:
		server = f.asked
	}
	return Config{
		Server: server, Local: f.local[device], VaultKey: f.vault[device], Origin: origin,
		DeviceName: "device", Pause: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
}

// setUp gives a copy of the shared fixture.
func setUp(t *testing.T) *fixture {
	t.Helper()
	f, err := shared()
	if err != nil {
		t.Fatalf("set up: %v", err)
	}
	c := &fixture{server: f.server.clone(), vault: f.vault, recovery: f.recovery}
	for i := range c.local {
		c.local[i] = f.local[i].clone()
	}
	return c
}

// device resumes a device of the fixture.
func (f *fixture) device(t *testing.T, i int) *Store {
	t.Helper()
	s, err := Resume(t.Context(), f.config(i))
	if err != nil {
		t.Fatalf("resume: %v", err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (m *memory) clone() *memory {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c := &memory{buckets: map[string]map[string][]byte{}}
	for name, b := range m.buckets {
		c.buckets[name] = maps.Clone(b)
	}
	return c
}

func put(t *testing.T, s *Store, k Key, data string) {
	t.Helper()
	if err := s.Update(t.Context(), func(tx *Tx) error { return tx.Put(k, []byte(data)) }); err != nil {
		t.Fatalf("put %v: %v", k, err)
	}
}

func get(t *testing.T, s *Store, k Key) string {
	t.Helper()
	b, err := s.Get(t.Context(), k)
	if err != nil {
		t.Fatalf("get %v: %v", k, err)
	}
	return string(b)
}

func refresh(t *testing.T, s *Store) {
	t.Helper()
	if _, err := s.Refresh(t.Context()); err != nil {
		t.Fatalf("refresh: %v", err)
	}
}

func (s *Store) id(k Key) keyapi.ObjectID { return objectID(s.now.Load().ring.Index, k) }

var (
	mail    = keyapi.Account{Platform: "email", ID: "alice@example.org"}
	conv    = Key{TypeConversation, "0123456789abcdef", mail}
	group   = Key{TypeGroup, "instance", mail}
	sending = Key{TypeSender, "instance", mail}
	record  = Key{TypeEpoch, "instance/1", mail}
)
