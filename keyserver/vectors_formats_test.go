package keyserver_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

var updateVectors = flag.Bool("update", false, "write docs/spec/vectors/keyserver-formats.json")

var formatsFile = filepath.Join("..", "docs", "spec", "vectors", "keyserver-formats.json")

// formats is the file of vectors; octets are hexadecimal.
type formats struct {
	Comment       string            `json:"comment"`
	Refresh       []signingVector   `json:"refresh"`
	CookieRefresh []signingVector   `json:"cookie_refresh"`
	Proof         []signingVector   `json:"proof"`
	ProofCodes    map[string]string `json:"proof_codes"` // as typed → as meant; "": refused
	IndexHash     []indexVector     `json:"index_hash"`
	Bodies        []bodyVector      `json:"bodies"`
	RefusedJSON   map[string]string `json:"refused_json"` // bodies of POST /v1/tx
	RefusedCBOR   map[string]string `json:"refused_cbor"`
}

type signingVector struct {
	Seed      string `json:"seed"` // of the Ed25519 key
	Origin    string `json:"origin"`
	Time      string `json:"time,omitempty"`
	Token     string `json:"token,omitempty"`    // refresh token, or its hash where that is in a cookie
	Platform  string `json:"platform,omitempty"` // proof
	ID        string `json:"id,omitempty"`       // proof: the account's, text
	Token1    string `json:"token1,omitempty"`   // proof
	Token2    string `json:"token2,omitempty"`   // proof
	Input     string `json:"input"`
	Signature string `json:"signature"`
}

type indexVector struct {
	Objects []indexEntry `json:"objects"` // in any order
	Hash    string       `json:"hash"`
}

type indexEntry struct {
	ID      string `json:"id"`
	Counter uint64 `json:"counter"`
	Hash    string `json:"hash"`
}

type bodyVector struct {
	Type string          `json:"type"`
	JSON json.RawMessage `json:"json"`
	CBOR string          `json:"cbor"`
}

func repeat(b byte, n int) []byte { return bytes.Repeat([]byte{b}, n) }

func (v *signingVector) sign(input []byte) {
	seed, err := hex.DecodeString(v.Seed)
	if err != nil {
		panic(err)
	}
	v.Input, v.Signature = hex.EncodeToString(input), hex.EncodeToString(ed25519.Sign(ed25519.NewKeyFromSeed(seed), input))
}

// makeFormats computes the vectors from what is fixed in them.
func makeFormats(t *testing.T) *formats {
	t.Helper()
	f := &formats{
		Comment:    "Formats of the key server API, see docs/spec/keyserver-api.md. Octets are hexadecimal. Everything under refused_json and refused_cbor is a body of POST /v1/tx that must be answered with 400.",
		ProofCodes: map[string]string{},
	}
	origin := "https://keys.example.org"
	for _, at := range []time.Time{time.Unix(1_700_000_000, 0), time.Unix(1_700_000_000, 120_000_000)} {
		r := keyapi.RefreshRequest{RefreshToken: repeat(2, 32), Time: at}
		v := signingVector{Seed: hex.EncodeToString(repeat(1, 32)), Origin: origin, Time: at.UTC().Format(time.RFC3339Nano), Token: hex.EncodeToString(r.RefreshToken)}
		c := v
		v.sign(keyapi.RefreshSigningInput(origin, r))
		f.Refresh = append(f.Refresh, v)
		c.Token = hex.EncodeToString(sha256Of(r.RefreshToken))
		c.sign(keyapi.CookieRefreshSigningInput(origin, at, sha256Of(r.RefreshToken)))
		f.CookieRefresh = append(f.CookieRefresh, c)
	}
	key := ed25519.NewKeyFromSeed(repeat(7, 32))
	for _, token1 := range [][]byte{repeat(3, 16), []byte("01101234")} {
		a := keyapi.Account{Platform: "email", ID: "alice@example.org"}
		v := signingVector{Seed: hex.EncodeToString(repeat(7, 32)), Origin: origin, Platform: a.Platform, ID: a.ID, Token1: hex.EncodeToString(token1), Token2: hex.EncodeToString(repeat(4, 16))}
		v.sign(keyapi.ProofSigningInput(origin, a, public(key), token1, repeat(4, 16)))
		f.Proof = append(f.Proof, v)
	}
	for _, typed := range []string{"K7X2-M9QP", "k7x2 m9qp", "oil0-1234", "UUUU-UUUU", "K7X2-M9Q", "K7X2-M9QPP", ""} {
		code, err := keyapi.ProofCode(typed)
		if err != nil {
			code = nil
		}
		f.ProofCodes[typed] = string(code)
	}
	for _, n := range []byte{0, 1, 3} {
		v := indexVector{Objects: []indexEntry{}}
		var index []keyapi.ObjectVersion
		for i := n; i > 0; i-- { // not ordered by id
			o := keyapi.ObjectVersion{ID: keyapi.ObjectID(repeat(i, 32)), Counter: uint64(i) << 33, Hash: repeat(0xf0+i, 32)}
			index = append(index, o)
			v.Objects = append(v.Objects, indexEntry{hex.EncodeToString(o.ID[:]), o.Counter, hex.EncodeToString(o.Hash)})
		}
		v.Hash = hex.EncodeToString(keyapi.IndexHash(index))
		f.IndexHash = append(f.IndexHash, v)
	}
	f.bodies(t)
	f.RefusedJSON = map[string]string{
		"member twice": `{"put":[],"put":[]}`, "other spelling": `{"Put":[]}`, "escaped spelling": `{"p\u0075t":[]}`, "unknown member": `{"puts":[]}`,
		"two values": `{}{}`, "an array": `[]`, "an id of 31 octets": `{"expect":[{"id":"` + hex.EncodeToString(repeat(0, 31)) + `","counter":1}]}`,
		"counter 0 put":    `{"put":[{"id":"` + hex.EncodeToString(repeat(0, 32)) + `","counter":0,"data":"AA=="}]}`,
		"an object twice":  `{"put":[{"id":"` + hex.EncodeToString(repeat(0, 32)) + `","counter":1,"data":"AA=="}],"delete":[{"id":"` + hex.EncodeToString(repeat(0, 32)) + `","counter":1}]}`,
		"an empty object":  `{"put":[{"id":"` + hex.EncodeToString(repeat(0, 32)) + `","counter":1,"data":""}]}`,
		"negative counter": `{"expect":[{"id":"` + hex.EncodeToString(repeat(0, 32)) + `","counter":-1}]}`,
	}
	f.RefusedCBOR = map[string]string{
		"member twice": "a2637075748063707574" + "80", "indefinite map": "bf6370757480ff", "indefinite octets": "a1656e6f6e63655f4101ff", "tag": "a1656e6f6e6365c24101",
		"float": "a1656e6f6e6365f90000", "undefined": "a1656e6f6e6365f7", "numbered member": "a10180", "two values": "a0a0", "text for octets": "a1656e6f6e63656141",
	}
	return f
}

func (f *formats) bodies(t *testing.T) {
	encode, _ := keyserver.CBOR()
	add := func(name string, v any) {
		asJSON, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		asCBOR, err := encode(v)
		if err != nil {
			t.Fatal(err)
		}
		f.Bodies = append(f.Bodies, bodyVector{name, asJSON, hex.EncodeToString(asCBOR)})
	}
	a := keyapi.Account{Platform: "email", ID: "alice@example.org"}
	add("Tx", keyapi.Tx{})
	add("Tx", keyapi.Tx{
		Expect: []keyapi.Expect{{ID: keyapi.ObjectID(repeat(1, 32)), Counter: 1}},
		Put:    []keyapi.Object{{ID: keyapi.ObjectID(repeat(2, 32)), Counter: 1 << 40, Data: []byte("octets")}},
		Ack:    []keyapi.AckRequestFor{{Account: a, Seq: 7}}, Nonce: []byte{1, 2, 3},
	})
	add("RefreshRequest", keyapi.RefreshRequest{RefreshToken: repeat(2, 32), Time: time.Unix(1_700_000_000, 120_000_000).UTC(), Signature: repeat(3, 64)})
}

// The published vectors are those of this implementation, and each body means
// the same in both encodings.
func TestVectorsFormats(t *testing.T) {
	want := makeFormats(t)
	b, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, '\n')
	if *updateVectors {
		if err := os.WriteFile(formatsFile, b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(formatsFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b) {
		t.Errorf("%s differs from what the code gives: go test ./keyserver -run TestVectorsFormats -update, if that is meant", formatsFile)
	}
	var f formats
	if err := json.Unmarshal(have, &f); err != nil {
		t.Fatal(err)
	}
	_, decode := keyserver.CBOR()
	encode, _ := keyserver.CBOR()
	for i, body := range f.Bodies {
		raw, err := hex.DecodeString(body.CBOR)
		if err != nil {
			t.Fatal(err)
		}
		var a, b any = &keyapi.Tx{}, &keyapi.Tx{}
		if body.Type == "RefreshRequest" {
			a, b = &keyapi.RefreshRequest{}, &keyapi.RefreshRequest{}
		}
		if err := decode(raw, a); err != nil {
			t.Errorf("body %d in CBOR: %v", i, err)
		}
		if err := keyserver.DecodeStrict(body.JSON, b); err != nil {
			t.Errorf("body %d in JSON: %v", i, err)
		}
		again, err := encode(b)
		if err != nil || !bytes.Equal(again, raw) {
			t.Errorf("body %d means something else in JSON: %v", i, err)
		}
	}
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	for name, body := range f.RefusedJSON {
		if rec := w.ask("POST", "/v1/tx", p.token(), body); rec.Code != 400 {
			t.Errorf("JSON, %s: %d", name, rec.Code)
		}
	}
	for name, text := range f.RefusedCBOR {
		raw, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		if rec := w.askCBOR("/v1/tx", p.token(), raw); rec.Code != 400 {
			t.Errorf("CBOR, %s: %d", name, rec.Code)
		}
	}
}
