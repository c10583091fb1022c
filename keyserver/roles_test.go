package keyserver_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

func newStore(t *testing.T) keyserver.Store {
	t.Helper()
	s, err := boltstore.Open(filepath.Join(t.TempDir(), "keyserver.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// apart is three servers with one role and one store each, and a client that
// knows where they are.
type apart struct {
	*world
	auth, delivery, store *node
	line                  *line
}

// line is the connection to the server with the role auth.
type line struct {
	http.Client
	down  atomic.Bool
	asked atomic.Int32
}

func (l *line) Do(r *http.Request) (*http.Response, error) {
	l.asked.Add(1)
	if l.down.Load() {
		return nil, errors.New("line is down")
	}
	return l.Client.Do(r)
}

func newApart(t *testing.T, o keyclient.Options) *apart {
	clock := newClock()
	a := &apart{line: &line{}}
	a.auth = newNode(t, keyserver.Options{Store: newStore(t), Now: clock.now, Roles: []keyserver.Role{keyserver.RoleAuth}})
	remote := func() *keyserver.RemoteAuth {
		return &keyserver.RemoteAuth{URL: a.auth.url, Origin: a.auth.Origin, Client: a.line}
	}
	a.delivery = newNode(t, keyserver.Options{Store: newStore(t), Now: clock.now, Auth: remote(), Origin: "https://delivery.example", Roles: []keyserver.Role{keyserver.RoleDelivery}})
	a.store = newNode(t, keyserver.Options{Store: newStore(t), Now: clock.now, Auth: remote(), Origin: "https://store.example", Roles: []keyserver.Role{keyserver.RoleStore}})
	a.world = a.auth.at(t, clock)
	o.URL, o.DeliveryURL, o.StoreURL = a.auth.url, a.delivery.url, a.store.url
	var err error
	if a.world.c, err = keyclient.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.world.c.Close)
	return a
}

// The roles on three machines serve the same client, in both encodings.
func TestRolesApart(t *testing.T) {
	for _, cbor := range []bool{false, true} {
		a := newApart(t, keyclient.Options{CBOR: cbor})
		alice, bob := a.person("alice"), a.person("bob")
		if _, err := bob.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{bob.keyPackage(nil)}}); err != nil {
			t.Fatal(err)
		}
		if _, err := alice.claimFrom(bob); err != nil {
			t.Fatal(err)
		}
		g := newGroup()
		alice.mustCommit(g, g.create(alice.account, "hello", bob.account))
		if got := bob.inbox(0); len(got) != 1 {
			t.Fatalf("%d messages", len(got))
		}
		// Objects and an acknowledgement: two servers, one after the other.
		tx := keyapi.Tx{Put: []keyapi.Object{put("cursor", 1, "1")}, Ack: []keyapi.AckRequestFor{{Account: bob.account, Seq: 1}}}
		for range 2 {
			if _, err := bob.tx(tx); err != nil {
				t.Fatal(err)
			}
		}
		if counter, _ := bob.object(objectID("cursor")); counter != 1 || len(bob.inbox(0)) != 0 {
			t.Errorf("counter %d, %d messages", counter, len(bob.inbox(0)))
		}
		// Objects and a Commit are never half done.
		_, err := alice.tx(keyapi.Tx{Put: []keyapi.Object{put("group", 1, "x")}, Commit: g.commit(alice.account, "again", alice.account)})
		if !errors.Is(err, keyclient.ErrSplit) {
			t.Errorf("Commit and objects: %v", err)
		}
		if counter, _ := alice.object(objectID("group")); counter != 0 {
			t.Error("half of a transaction was carried out")
		}
	}
}

// What a server does not have, it does not answer; half transactions neither.
func TestRolesAnswerForThemselvesOnly(t *testing.T) {
	a := newApart(t, keyclient.Options{})
	p := a.person("alice")
	for _, row := range []struct {
		n            *node
		method, path string
		code         string
	}{
		{a.auth, "GET", "/v1/objects", keyapi.CodeNoRoute},
		{a.auth, "POST", "/v1/tx", keyapi.CodeNoRoute},
		{a.auth, "GET", "/v1/accounts", keyapi.CodeNoRoute},
		{a.delivery, "POST", "/v1/auth/login", keyapi.CodeNoRoute},
		{a.delivery, "GET", "/v1/keys", keyapi.CodeNoRoute},
		{a.delivery, "GET", "/v1/objects", keyapi.CodeNoRoute},
		{a.store, "GET", "/v1/accounts", keyapi.CodeNoRoute},
		{a.store, "POST", "/v1/auth/password", keyapi.CodeNoRoute},
	} {
		rec := row.n.at(t, a.clock).ask(row.method, row.path, p.token(), "")
		if !strings.Contains(rec.Body.String(), `"`+row.code+`"`) {
			t.Errorf("%s %s: %d %s", row.method, row.path, rec.Code, rec.Body)
		}
	}
	_, err := a.delivery.c.Tx(t.Context(), p.token(), keyapi.Tx{Put: []keyapi.Object{put("a", 1, "x")}})
	wantCode(t, err, keyapi.CodeInvalid)
	_, err = a.store.c.Tx(t.Context(), p.token(), keyapi.Tx{Ack: []keyapi.AckRequestFor{{Account: p.account, Seq: 0}}})
	wantCode(t, err, keyapi.CodeInvalid)
}

// Logout counts at nodes with stores of their own within five seconds; while
// the server that knows cannot be asked, nobody is let in.
func TestThreat13_RevocationReachesOtherStores(t *testing.T) {
	a := newApart(t, keyclient.Options{})
	p := a.person("alice")
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("a", 1, "x")}}); err != nil {
		t.Fatal(err)
	}
	before := a.line.asked.Load()
	for range 20 {
		if _, err := a.c.ObjectIndex(t.Context(), p.token()); err != nil {
			t.Fatal(err)
		}
	}
	if n := a.line.asked.Load() - before; n > 1 {
		t.Errorf("asked %d times about one session within a moment", n)
	}
	if err := a.c.Logout(t.Context(), p.token()); err != nil {
		t.Fatal(err)
	}
	a.clock.advance(5 * time.Second)
	_, err := a.c.ObjectIndex(t.Context(), p.token())
	wantCode(t, err, keyapi.CodeUnauthorized)
	_, err = a.c.Accounts(t.Context(), p.token())
	wantCode(t, err, keyapi.CodeUnauthorized)

	q := a.person("bob")
	a.line.down.Store(true)
	a.clock.advance(6 * time.Second)
	_, err = a.c.ObjectIndex(t.Context(), q.token())
	wantCode(t, err, keyapi.CodeUnavailable)
	a.line.down.Store(false)
	if _, err := a.c.ObjectIndex(t.Context(), q.token()); err != nil {
		t.Errorf("when it can be asked again: %v", err)
	}
}

// A session that was opened with the recovery code reads objects at the store,
// leaves directions for whoever signs in next, and does nothing else there.
func TestThreat07_RecoverySessionsAtOtherStores(t *testing.T) {
	a := newApart(t, keyclient.Options{})
	p := a.register("alice")
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("wrap", 1, "x")}}); err != nil {
		t.Fatal(err)
	}
	s, err := a.c.Recover(t.Context(), keyapi.RecoverRequest{Username: "alice", AuthVersion: 1, RecoveryAuth: p.recovery, Device: keyapi.Device{Key: public(newKey())}})
	if err != nil {
		t.Fatal(err)
	}
	if l, err := a.c.Objects(t.Context(), s.AccessToken, []keyapi.ObjectID{objectID("wrap")}); err != nil || len(l.Objects) != 1 {
		t.Errorf("reading: %v", err)
	}
	_, err = a.c.Tx(t.Context(), s.AccessToken, keyapi.Tx{Put: []keyapi.Object{put("wrap", 2, "y")}})
	wantCode(t, err, keyapi.CodeForbidden)
	_, err = a.c.MoveStore(t.Context(), s.AccessToken, keyapi.StoreMove{Change: keyapi.MoveLeave, Move: 1, To: "https://elsewhere.example"})
	wantCode(t, err, keyapi.CodeForbidden)
	_, err = a.c.Accounts(t.Context(), s.AccessToken)
	wantCode(t, err, keyapi.CodeForbidden)
	if at, err := a.c.SetDirections(t.Context(), s.AccessToken, keyapi.Directions{Counter: 1, Data: []byte("sealed")}); err != nil || at.Place != keyapi.PlaceHere {
		t.Errorf("directions: %+v, %v", at, err)
	}
}

// A server with the role auth that calls itself otherwise than configured is
// believed in nothing; nor is the token of another server.
func TestThreat10_OriginOfTheOtherServerIsPinned(t *testing.T) {
	a := newApart(t, keyclient.Options{})
	p := a.person("alice")
	for _, origin := range []string{"https://evil.example", a.auth.Origin + "/"} {
		n := newNode(t, keyserver.Options{
			Store: newStore(t), Now: a.clock.now, Roles: []keyserver.Role{keyserver.RoleStore},
			Auth: &keyserver.RemoteAuth{URL: a.auth.url, Origin: origin},
		})
		_, err := n.c.ObjectIndex(t.Context(), p.token())
		if !keyclient.IsCode(err, keyapi.CodeUnavailable) && !keyclient.IsCode(err, keyapi.CodeUnauthorized) {
			t.Errorf("origin %s: %v", origin, err)
		}
	}
	other := newNode(t, keyserver.Options{Store: newStore(t), Now: a.clock.now, Origin: a.auth.Origin})
	foreign := other.at(t, a.clock).register("alice")
	_, err := a.c.ObjectIndex(t.Context(), foreign.token())
	wantCode(t, err, keyapi.CodeUnauthorized)
}

// A store of the user's own has its own users; the client brings it a token of
// its own.
func TestStoreWithALoginOfItsOwn(t *testing.T) {
	home, clock, _ := newNodes(t, 1, keyserver.Options{})
	own := newNode(t, keyserver.Options{Store: newStore(t), Now: clock.now, Origin: "https://nas.example", Roles: []keyserver.Role{keyserver.RoleAuth, keyserver.RoleStore}})
	there := own.at(t, clock).register("me")
	w := home[0].at(t, clock)
	alice := w.person("alice")
	c, err := keyclient.New(keyclient.Options{
		URL: home[0].url, StoreURL: own.url, StoreToken: func(context.Context) (string, error) { return there.token(), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tx := keyapi.Tx{Put: []keyapi.Object{put("a", 1, "mine")}}
	if _, err := c.Tx(t.Context(), alice.token(), tx); err != nil {
		t.Fatal(err)
	}
	if counter, _ := there.object(objectID("a")); counter != 1 {
		t.Error("the object is not in the own store")
	}
	if counter, _ := alice.object(objectID("a")); counter != 0 {
		t.Error("the object is in the store of the other server")
	}
	_, err = c.ChangePassword(t.Context(), alice.token(), keyapi.PasswordRequest{Tx: tx})
	if !errors.Is(err, keyclient.ErrSplit) {
		t.Errorf("a password change with objects of another store: %v", err)
	}
}

func TestRolesOfBadForm(t *testing.T) {
	auth := func(url string) *keyserver.RemoteAuth {
		return &keyserver.RemoteAuth{URL: url, Origin: "https://x.example"}
	}
	for name, o := range map[string]keyserver.Options{
		"unknown role":        {Roles: []keyserver.Role{"mail"}},
		"role twice":          {Roles: []keyserver.Role{"auth", "auth"}},
		"no auth anywhere":    {Roles: []keyserver.Role{"store"}},
		"auth here and there": {Auth: auth("https://x.example")},
		"plain http":          {Roles: []keyserver.Role{"store"}, Auth: auth("http://x.example")},
		"no origin":           {Roles: []keyserver.Role{"store"}, Auth: &keyserver.RemoteAuth{URL: "https://x.example"}},
		"a signing key":       {Roles: []keyserver.Role{"store"}, Auth: auth("https://x.example"), TokenKey: newKey()},
	} {
		o.Store, o.Origin, o.Pepper = &countedStore{}, "https://y.example", random(32)
		if _, err := keyserver.New(o); err == nil || !strings.Contains(err.Error(), "options") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
