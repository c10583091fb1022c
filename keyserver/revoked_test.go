package keyserver_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// lateBody does something before its first octet is read.
type lateBody struct {
	io.Reader
	before func()
}

func (b *lateBody) Read(p []byte) (int, error) {
	if b.before != nil {
		b.before()
		b.before = nil
	}
	return b.Reader.Read(p)
}

// askLate sends a body of which nothing is to be had before something was done.
func (w *world) askLate(path, token string, body any, before func()) *httptest.ResponseRecorder {
	w.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		w.t.Fatal(err)
	}
	r := httptest.NewRequest("POST", path, &lateBody{Reader: bytes.NewReader(b), before: before})
	r.ContentLength = int64(len(b))
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("Content-Type", "application/json")
	rec := httptest.NewRecorder()
	w.Handler.ServeHTTP(rec, r)
	return rec
}

// Threat 13: a request that was begun before its session ended, and whose body
// comes afterwards, is carried out no more. Somebody with a stolen device could
// have as many of these waiting as there are routes.
func TestThreat13_SessionsThatEndWhileTheBodyComes(t *testing.T) {
	w := newWorld(t, keyserver.Options{Challengers: map[string]keyserver.Challenger{"matrix": &carrier{}}})
	p, other := w.person("alice"), w.person("bob")
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("a", 1, "x")}}); err != nil {
		t.Fatal(err)
	}
	rotation, err := keyapi.NewRotation(p.account, p.identity, public(newKey()), 1_700_000_000)
	if err != nil {
		t.Fatal(err)
	}
	auth := p.change(p.auth, random(32), put("wraps", 1, "x"))
	requests := map[string]any{
		"/v1/tx":                                keyapi.Tx{Put: []keyapi.Object{put("b", 1, "x")}},
		"/v1/objects":                           keyapi.ObjectsRequest{IDs: []keyapi.ObjectID{put("a", 1, "x").ID}},
		"/v1/auth/password":                     auth,
		"/v1/store":                             keyapi.StoreMove{Change: keyapi.MoveLeave, Move: 1, To: "https://store.example"},
		"/v1/store/import":                      keyapi.StoreImport{Move: 1, Objects: []keyapi.Object{put("c", 1, "x")}},
		"/v1/accounts":                          keyapi.AccountRequest{Account: keyapi.Account{Platform: "email", ID: "new@example.org"}, IdentityKey: public(p.identity)},
		"/v1/accounts/rotate":                   keyapi.RotationRequest{Account: p.account, Rotation: rotation},
		"/v1/accounts/verify":                   keyapi.VerifyRequest{Account: keyapi.Account{Platform: "matrix", ID: "@a:example.org"}, IdentityKey: public(p.identity)},
		"/v1/store/directions":                  keyapi.Directions{Counter: 1, Data: []byte("sealed")},
		"/v1/keypackages/email/" + p.account.ID: keyapi.KeyPackageUpload{KeyPackages: [][]byte{p.keyPackage(nil)}},
		"/v1/delivery/email/" + p.account.ID + "/ack": keyapi.AckRequest{},
	}
	for path, body := range requests {
		session, err := p.login(newKey(), p.auth)
		if err != nil {
			t.Fatal(err)
		}
		rec := w.askLate(path, session.AccessToken, body, func() {
			if err := w.c.Logout(t.Context(), session.AccessToken); err != nil {
				t.Error(err)
			}
		})
		if rec.Code != 401 {
			t.Errorf("%s of a session that ended meanwhile: %d %s", path, rec.Code, rec.Body)
		}
	}
	if r, err := w.c.Reachable(t.Context(), other.token(), p.account); err != nil || string(r.IdentityKey) != string(public(p.identity)) {
		t.Errorf("the account: %+v, %v", r, err)
	}
}

// The same at servers that ask another one about sessions.
func TestThreat13_SessionsThatEndWhileTheBodyComesElsewhere(t *testing.T) {
	a := newApart(t, keyclient.Options{})
	p := a.person("alice")
	if _, err := p.tx(keyapi.Tx{Put: []keyapi.Object{put("a", 1, "x")}}); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		at   *node
		path string
		body any
	}{
		{a.store, "/v1/tx", keyapi.Tx{Put: []keyapi.Object{put("b", 1, "x")}}},
		{a.store, "/v1/objects", keyapi.ObjectsRequest{IDs: []keyapi.ObjectID{put("a", 1, "x").ID}}},
		{a.store, "/v1/store/directions", keyapi.Directions{Counter: 1, Data: []byte("sealed")}},
		{a.delivery, "/v1/delivery/email/" + p.account.ID + "/ack", keyapi.AckRequest{}},
	} {
		session, err := p.login(newKey(), p.auth)
		if err != nil {
			t.Fatal(err)
		}
		rec := x.at.at(t, a.clock).askLate(x.path, session.AccessToken, x.body, func() {
			if err := a.c.Logout(t.Context(), session.AccessToken); err != nil {
				t.Error(err)
			}
			a.clock.advance(6 * time.Second) // longer than what was heard of it counts
		})
		if rec.Code != 401 {
			t.Errorf("%s of a session that ended meanwhile: %d %s", x.path, rec.Code, rec.Body)
		}
	}
}
