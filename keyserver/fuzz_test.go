package keyserver_test

import (
	"encoding/json"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// FuzzTx: whatever the body, decoding does not panic; what passes is accepted by
// encoding/json too, and means the same after being written again.
func FuzzTx(f *testing.F) {
	g := newGroup()
	account := keyapi.Account{Platform: "email", ID: "alice@example.org"}
	seed := keyapi.Tx{
		Expect: []keyapi.Expect{{ID: objectID("a"), Counter: 1}}, Put: []keyapi.Object{put("b", 1, "data")},
		Delete: []keyapi.Expect{{ID: objectID("c"), Counter: 2}}, Commit: g.create(account, "commit", account),
		Ack: []keyapi.AckRequestFor{{Account: account, Seq: 1}}, Nonce: []byte{1},
	}
	b, err := json.Marshal(seed)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for _, s := range []string{
		`{}`, `{"put":[]}`, `{"put":null}`, `{"put":[{"id":"00"}]}`, `{"commit":{"epoch":-1}}`, `{"a":1,"a":2}`, `{"Put":[]}`, `[[[[`,
		`{"put\u0022":1}`, `{"nonce":"AA==\n"}`, `{"x":"\\"}`, `"`, `{"commit":{"kind":1,"pair":[{},{}]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var tx keyapi.Tx
		if keyserver.DecodeStrict(data, &tx) != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatal("accepted what is not JSON")
		}
		again, err := json.Marshal(tx)
		if err != nil {
			t.Fatal(err)
		}
		var same keyapi.Tx
		if err := keyserver.DecodeStrict(again, &same); err != nil {
			t.Fatalf("own encoding refused: %v", err)
		}
		if a, b := keyserver.CheckTx(&tx), keyserver.CheckTx(&same); (a == nil) != (b == nil) {
			t.Fatalf("%v and %v", a, b)
		}
	})
}
