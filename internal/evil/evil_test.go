package evil

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// user is somebody signed in on a device, without any of the SDK.
type user struct {
	*keyclient.Client
	t     *testing.T
	name  string
	token string
	key   ed25519.PublicKey
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

var name = keyapi.Account{Platform: "email", ID: "dot.and/slash@example.org"}

func register(t *testing.T, s *Server, device string) *user {
	t.Helper()
	u := &user{Client: s.Client(device), t: t, name: "user-of-" + device, key: random(32)}
	session, err := u.Register(t.Context(), keyapi.RegisterRequest{
		Username: u.name, AuthVersion: 1, UserID: random(16), Auth: random(32),
		KDF:    keyapi.KDF{Algorithm: "argon2id", Salt: random(16), Time: 3, MemoryKiB: 64 << 10, Threads: 4},
		Device: keyapi.Device{Name: device, Key: random(32)},
	})
	if err != nil {
		t.Fatal(err)
	}
	u.token = session.AccessToken
	if _, err := u.AddAccount(t.Context(), u.token, keyapi.AccountRequest{Account: name, IdentityKey: u.key}); err != nil {
		t.Fatal(err)
	}
	return u
}

func (u *user) put(c *keyclient.Client, id byte, counter uint64, data string) error {
	_, err := c.Tx(u.t.Context(), u.token, keyapi.Tx{Nonce: random(16), Put: []keyapi.Object{
		{ID: keyapi.ObjectID{id}, Counter: counter, Data: []byte(data)},
	}})
	return err
}

func (u *user) get(c *keyclient.Client, id byte) string {
	u.t.Helper()
	l, err := c.Objects(u.t.Context(), u.token, []keyapi.ObjectID{{id}})
	if err != nil {
		u.t.Fatal(err)
	}
	if len(l.Objects) == 0 {
		return ""
	}
	return string(l.Objects[0].Data)
}

// TestHonest: without an attack it is a key server like any other, whichever
// device asks, and takes note.
func TestHonest(t *testing.T) {
	t.Parallel()
	s := NewServer(t, Options{})
	u := register(t, s, "laptop")
	if err := u.put(u.Client, 1, 1, "data"); err != nil {
		t.Fatal(err)
	}
	phone := s.Client("phone")
	if got := u.get(phone, 1); got != "data" {
		t.Errorf("got %q", got)
	}
	r, err := u.Reachable(t.Context(), u.token, name)
	if err != nil || !r.HasAccount || !bytes.Equal(r.IdentityKey, u.key) {
		t.Errorf("%+v, %v", r, err)
	}
	if n := s.Count(From(To("POST", "/v1/objects"), "phone")); n != 1 {
		t.Errorf("%d requests of the phone", n)
	}
	if n := s.Count(ToAccount("GET", "/v1/reachable", name, "")); n != 1 {
		t.Errorf("%d questions for the account", n)
	}
	if !slices.ContainsFunc(s.Log(), func(e *Exchange) bool { return bytes.Contains(e.Octets(), []byte(u.token)) }) {
		t.Error("the log does not hold what was sent")
	}
	if s.ClearLog(); len(s.Log()) != 0 {
		t.Error("the log was not cleared")
	}
}

// TestFaults: none of them is taken for an answer about what exists.
func TestFaults(t *testing.T) {
	t.Parallel()
	s := NewServer(t, Options{})
	u := register(t, s, "laptop")
	for fault, act := range Faults() {
		lie := s.Always(Any, act)
		r, err := u.Reachable(t.Context(), u.token, name)
		if err == nil {
			t.Errorf("%s: %+v", fault, r)
		}
		if lie.Hits() == 0 { // net/http asks again where a connection that it kept breaks
			t.Errorf("%s: no request was hit", fault)
		}
		lie.Stop()
	}
	if r, err := u.Reachable(t.Context(), u.token, name); err != nil || !r.HasAccount {
		t.Errorf("afterwards: %+v, %v", r, err)
	}
}

// TestWhich: attacks begin and end where they are told to.
func TestWhich(t *testing.T) {
	t.Parallel()
	s := NewServer(t, Options{})
	u := register(t, s, "laptop")
	lie := s.Start(Attack{On: From(To("GET", "/v1/objects"), "phone"), Skip: 1, Times: 2, Do: Empty})
	phone := s.Client("phone")
	for n, want := range []bool{true, false, false, true} {
		if _, err := phone.ObjectIndex(t.Context(), u.token); (err == nil) != want {
			t.Errorf("request %d: %v", n, err)
		}
		if _, err := u.ObjectIndex(t.Context(), u.token); err != nil {
			t.Errorf("another device's request %d: %v", n, err)
		}
	}
	if lie.Hits() != 2 {
		t.Errorf("%d hits", lie.Hits())
	}
	s.Always(Any, Down)
	s.StopAll()
	if _, err := u.ObjectIndex(t.Context(), u.token); err != nil {
		t.Error(err)
	}
}

// TestOnTheWire: answers that get lost, requests that arrive twice or late, and
// what is altered on its way.
func TestOnTheWire(t *testing.T) {
	t.Parallel()
	s := NewServer(t, Options{})
	u := register(t, s, "laptop")
	s.Once(To("POST", "/v1/tx"), LoseAnswer)
	if err := u.put(u.Client, 1, 1, "one"); !errors.Is(err, keyclient.ErrUnavailable) {
		t.Errorf("lost: %v", err)
	}
	if got := u.get(u.Client, 1); got != "one" {
		t.Errorf("carried out: %q", got)
	}
	s.Once(To("POST", "/v1/tx"), Twice)
	if err := u.put(u.Client, 1, 2, "two"); err != nil {
		t.Errorf("twice: %v", err)
	}
	s.Once(To("POST", "/v1/tx"), EditRequest(func(tx *keyapi.Tx) { tx.Put[0].Data = []byte("altered") }))
	if err := u.put(u.Client, 1, 3, "three"); err != nil || u.get(u.Client, 1) != "altered" {
		t.Errorf("altered: %v", err)
	}
	s.Once(To("POST", "/v1/objects"), Truncate(20))
	if _, err := u.Objects(t.Context(), u.token, []keyapi.ObjectID{{1}}); !errors.Is(err, keyclient.ErrUnavailable) {
		t.Errorf("truncated: %v", err)
	}
	hold, arrived, release := Hold()
	s.Once(To("POST", "/v1/tx"), hold)
	done := make(chan error)
	go func() { done <- u.put(u.Client, 1, 4, "late") }()
	<-arrived
	if got := u.get(u.Client, 1); got != "altered" {
		t.Errorf("held back: %q", got)
	}
	release()
	if err := <-done; err != nil || u.get(u.Client, 1) != "late" {
		t.Errorf("released: %v", err)
	}
	elsewhere := s.Once(Any, Redirect(s.URL+"/v1/server"))
	if _, err := u.Server(t.Context()); !errors.Is(err, keyclient.ErrUnavailable) || elsewhere.Hits() != 1 {
		t.Errorf("redirect: %v", err)
	}
}

// TestLies: well-formed answers that are not true reach the client as such.
func TestLies(t *testing.T) {
	t.Parallel()
	s := NewServer(t, Options{})
	u := register(t, s, "laptop")
	if err := errors.Join(u.put(u.Client, 1, 1, "one"), u.put(u.Client, 2, 1, "two")); err != nil {
		t.Fatal(err)
	}
	s.SignInParams(func(p *keyapi.AuthParams) { p.KDF.Time = 1 })
	if p, err := u.Params(t.Context(), keyapi.ParamsRequest{Username: u.name}); err != nil || p.KDF.Time != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	false1 := random(32)
	lie := s.SubstituteIdentity(name, false1)
	if r, err := u.Reachable(t.Context(), u.token, name); err != nil || !bytes.Equal(r.IdentityKey, false1) {
		t.Errorf("%+v, %v", r, err)
	}
	lie.Stop()
	s.DenyAccount(name)
	if r, err := u.Reachable(t.Context(), u.token, name); err != nil || r.HasAccount {
		t.Errorf("%+v, %v", r, err)
	}
	s.SubstituteKeyPackage(name, []byte("a KeyPackage"))
	if k, err := u.ClaimKeyPackage(t.Context(), u.token, name); err != nil || string(k.KeyPackage) != "a KeyPackage" {
		t.Errorf("%+v, %v", k, err)
	}
	s.Objects(nil, func(l *keyapi.ObjectList) { l.Objects[0].Data = []byte("swapped") })
	if got := u.get(u.Client, 1); got != "swapped" {
		t.Errorf("got %q", got)
	}
	s.Index(nil, func(x *keyapi.ObjectIndex) { x.Objects = x.Objects[:1] })
	if x, err := u.ObjectIndex(t.Context(), u.token); err != nil || len(x.Objects) != 1 {
		t.Errorf("%+v, %v", x, err)
	}
	s.Always(To("GET", "/v1/server"), AddMembers(map[string]any{"escrow_key": []byte("mine")}))
	resp, err := http.Get(s.URL + "/v1/server")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if b, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(b), `"escrow_key"`) {
		t.Errorf("%s, %v", b, err)
	}
	s.Deliver(keyapi.Delivery{Type: keyapi.DeliveryWelcome, Message: []byte("forged")}, name)
	s.Deliver(keyapi.Delivery{Type: keyapi.DeliveryCommit, Message: []byte("withheld")}, name)
	s.Withhold(name, IsCommit)
	page, err := u.Deliveries(t.Context(), u.token, keyapi.DeliveryQuery{Account: name})
	if err != nil || len(page.Messages) != 1 || !IsWelcome(&page.Messages[0]) || len(s.Inbox(name)) != 2 {
		t.Errorf("%+v, %v", page, err)
	}
}

// TestWorlds: roll-backs and forks hold together as an honest server's state does.
func TestWorlds(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	o := Options{}
	o.Server.Now = func() time.Time { return now }
	s := NewServer(t, o)
	u := register(t, s, "laptop")
	phone := s.Client("phone")
	if err := u.put(u.Client, 1, 1, "old"); err != nil {
		t.Fatal(err)
	}
	old := s.ObjectsOf(u.name)
	if err := errors.Join(u.put(u.Client, 1, 2, "new"), u.put(u.Client, 2, 1, "added")); err != nil {
		t.Fatal(err)
	}
	if ids := Changed(old, s.ObjectsOf(u.name), 2); len(ids) != 1 || ids[0] != (keyapi.ObjectID{2}) {
		t.Errorf("changed: %v", ids)
	}
	s.SetObjects(u.name, old)
	if u.get(u.Client, 1) != "old" || u.get(u.Client, 2) != "" {
		t.Error("not rolled back")
	}
	if err := u.put(u.Client, 1, 2, "another way on"); err != nil {
		t.Errorf("an honest server goes on from there: %v", err)
	}
	s.Fork("phone")
	if err := errors.Join(u.put(u.Client, 1, 3, "main"), u.put(phone, 1, 3, "fork")); err != nil {
		t.Fatal(err)
	}
	if u.get(u.Client, 1) != "main" || u.get(phone, 1) != "fork" {
		t.Error("not forked")
	}
	s.Reunite("phone")
	if u.get(phone, 1) != "main" {
		t.Error("not reunited")
	}
}
