package keyserver_test

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
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
		"/v1/store":                             keyapi.StoreMove{Change: keyapi.MoveLeave, To: "https://store.example"},
		"/v1/store/import":                      keyapi.StoreImport{Objects: []keyapi.Object{put("c", 1, "x")}},
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
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("POST", path, &lateBody{Reader: strings.NewReader(string(b)), before: func() {
			if err := w.c.Logout(t.Context(), session.AccessToken); err != nil {
				t.Error(err)
			}
		}})
		r.ContentLength = int64(len(b))
		r.Header.Set("Authorization", "Bearer "+session.AccessToken)
		r.Header.Set("Content-Type", "application/json")
		rec := httptest.NewRecorder()
		w.Handler.ServeHTTP(rec, r)
		if rec.Code != 401 {
			t.Errorf("%s of a session that ended meanwhile: %d %s", path, rec.Code, rec.Body)
		}
	}
	if r, err := w.c.Reachable(t.Context(), other.token(), p.account); err != nil || string(r.IdentityKey) != string(public(p.identity)) {
		t.Errorf("the account: %+v, %v", r, err)
	}
}
