package keyserver_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// The whole API in CBOR.
func TestCBORServesTheSameAPI(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	var err error
	if w.c, err = keyclient.New(keyclient.Options{URL: w.URL, CBOR: true}); err != nil {
		t.Fatal(err)
	}
	defer w.c.Close()
	alice, bob := w.person("alice"), w.person("bob")
	if p, err := w.c.Params(t.Context(), keyapi.ParamsRequest{Username: "alice"}); err != nil || len(p.KDF.Salt) != 16 {
		t.Fatal(err)
	}
	if alice.session, err = alice.refresh(alice.session.RefreshToken, alice.device); err != nil {
		t.Fatalf("refresh, which has a time: %v", err)
	}
	kp := bob.keyPackage(nil)
	if _, err := bob.upload(keyapi.KeyPackageUpload{KeyPackages: [][]byte{kp}}); err != nil {
		t.Fatal(err)
	}
	if got, err := alice.claimFrom(bob); err != nil || !bytes.Equal(got.KeyPackage, kp) {
		t.Fatal(err)
	}
	if r, err := w.c.Reachable(t.Context(), alice.token(), bob.account); err != nil || !r.HasAccount {
		t.Fatal(err)
	}
	g := newGroup()
	alice.mustCommit(g, g.create(alice.account, "hello", bob.account))
	tx := keyapi.Tx{Put: []keyapi.Object{put("a", 1, "octets")}, Ack: []keyapi.AckRequestFor{{Account: bob.account, Seq: 1}}, Nonce: []byte{1}}
	for range 2 { // the same octets again give the same result
		if _, err := bob.tx(tx); err != nil {
			t.Fatal(err)
		}
	}
	tx.Nonce = []byte{2}
	_, err = bob.tx(tx)
	if p := wantCode(t, err, keyapi.CodeConflict); len(p.Have) != 1 || p.Have[0].Counter != 1 {
		t.Errorf("%+v", p)
	}
	if counter, data := bob.object(objectID("a")); counter != 1 || string(data) != "octets" {
		t.Errorf("%d %q", counter, data)
	}
	if s, err := w.c.Sessions(t.Context(), bob.token()); err != nil || len(s.Sessions) != 1 || s.Sessions[0].Created.IsZero() {
		t.Errorf("%+v %v", s, err)
	}
}

func (w *world) askCBOR(path, token string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/cbor")
	r.Header.Set("Accept", "application/cbor")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	rec := httptest.NewRecorder()
	w.Handler.ServeHTTP(rec, r)
	return rec
}

// What another reader could take in another way is refused.
func TestCBORIsStrict(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	if rec := w.askCBOR("/v1/tx", p.token(), []byte{0xa0}); rec.Code != 200 || rec.Header().Get("Content-Type") != "application/cbor" {
		t.Fatalf("an empty map: %d %s", rec.Code, rec.Body)
	}
	zero := strings.Repeat("00", 32)
	for name, text := range map[string]string{
		"nothing":                     "",
		"JSON":                        "7b7d",
		"cut short":                   "a1",
		"two values":                  "a0a0",
		"an array":                    "80",
		"member twice":                "a2" + "63707574" + "80" + "63707574" + "80",
		"unknown member":              "a1" + "6470757473" + "80",
		"other spelling":              "a1" + "63507574" + "80",
		"name of octets":              "a1" + "43707574" + "80",
		"numbered member":             "a1" + "01" + "80",
		"map of indefinite length":    "bf" + "63707574" + "80" + "ff",
		"array of indefinite length":  "a1" + "63707574" + "9fff",
		"octets of indefinite length": "a1" + "656e6f6e6365" + "5f4101ff",
		"tag":                         "a1" + "656e6f6e6365" + "c24101",
		"float":                       "a1" + "656e6f6e6365" + "f90000",
		"undefined":                   "a1" + "656e6f6e6365" + "f7",
		"text for octets":             "a1" + "656e6f6e6365" + "6141",
		"text for an object id":       "a1" + "66657870656374" + "81a2" + "626964" + "7840" + hex.EncodeToString([]byte(zero)) + "67636f756e746572" + "01",
		"short object id":             "a1" + "66657870656374" + "81a2" + "626964" + "4100" + "67636f756e746572" + "01",
		"negative counter":            "a1" + "66657870656374" + "81a2" + "626964" + "5820" + zero + "67636f756e746572" + "20",
		"nested deeply":               "a1" + "63707574" + strings.Repeat("81", 40) + "80",
		"length of four GiB":          "a1" + "656e6f6e6365" + "5affffffff",
		"2^40 elements":               "a1" + "63707574" + "9b0000010000000000",
		"2^40 members":                "bb0000010000000000",
	} {
		body, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(name, err)
		}
		rec := w.askCBOR("/v1/tx", p.token(), body)
		if rec.Code != 400 || rec.Header().Get("Content-Type") != "application/problem+json" || !strings.Contains(rec.Body.String(), `"invalid"`) {
			t.Errorf("%s: %d %s", name, rec.Code, rec.Body)
		}
	}
	if rec := w.askCBOR("/v1/auth/params", "", []byte("\xa1\x68username\xc0\x65alice")); rec.Code != 400 {
		t.Errorf("a name as a time: %d %s", rec.Code, rec.Body)
	}
	// A time is text under tag 0; a number of seconds is not.
	r := keyapi.RefreshRequest{RefreshToken: p.session.RefreshToken, Time: w.clock.now()}
	b, err := cbor.Marshal(map[string]any{
		"refresh_token": r.RefreshToken, "time": r.Time.Unix(), "signature": ed25519.Sign(p.device, keyapi.RefreshSigningInput(w.Origin, r)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if rec := w.askCBOR("/v1/auth/refresh", "", b); rec.Code != 400 {
		t.Errorf("time as a number: %d", rec.Code)
	}
}

// FuzzCBOR: whatever the octets, decoding does not panic; what passes means the
// same after being written again, and in JSON.
func FuzzCBOR(f *testing.F) {
	account := keyapi.Account{Platform: "email", ID: "alice@example.org"}
	g := newGroup()
	seed := keyapi.Tx{
		Expect: []keyapi.Expect{{ID: objectID("a"), Counter: 1}}, Put: []keyapi.Object{put("b", 1, "data")},
		Commit: g.create(account, "commit", account), Ack: []keyapi.AckRequestFor{{Account: account, Seq: 1}}, Nonce: []byte{1},
	}
	encode, decode := keyserver.CBOR()
	b, err := encode(seed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for _, s := range []string{"a0", "bf", "a163707574", "9bffffffffffffffff", "a1656e6f6e63654101", "818181", "f6", "a16370757480"} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var tx, same keyapi.Tx
		if decode(data, &tx) != nil {
			return
		}
		again, err := encode(tx)
		if err != nil {
			t.Fatal(err)
		}
		if err := decode(again, &same); err != nil {
			t.Fatalf("own encoding refused: %v", err)
		}
		if third, err := encode(same); err != nil || !bytes.Equal(third, again) {
			t.Fatalf("%x and %x, %v", again, third, err)
		}
		if a, b := keyserver.CheckTx(&tx), keyserver.CheckTx(&same); (a == nil) != (b == nil) {
			t.Fatalf("%v and %v", a, b)
		}
	})
}
