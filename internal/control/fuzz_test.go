package control

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// FuzzRequest: decoding any octets as any request ends, and what is taken
// survives encoding, so that nothing in it was overlooked.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"account":"a@b"}`, `{"account":"a@b","id":"00"}`, `{"account":"a","address":"b","code":"1","key":"AQ=="}`,
		`{"account":"a","id":"b","members":["c","d"]}`, `{"old":"x","new":"y"}`, `{"a":1,"A":2}`, `{"a":{"b":[{},[]]}}`,
		"{\"account\":\"\xff\"}", `{"account":"\ud800"}`, `[]`, `null`, `{"id":"x"}x`, strings.Repeat("[", 50),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, v := range []any{
			&nothing{}, &accountRequest{}, &conversationRequest{}, &membersRequest{}, &contactRequest{}, &verifyRequest{},
			&acceptRequest{}, &deviceRequest{}, &passwordRequest{},
		} {
			if decode(b, v) != nil {
				continue
			}
			if !bytes.HasPrefix(bytes.TrimLeft(b, " \t\r\n"), []byte("{")) {
				t.Errorf("%q was taken as a %T", b, v)
			}
			again, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			back := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := decode(again, back); err != nil {
				t.Errorf("%q became %q, which is no request: %v", b, again, err)
			}
			// An empty list and none are the same.
			if x, _ := json.Marshal(back); !bytes.Equal(x, again) {
				t.Errorf("%q became %q, then %q", b, again, x)
			}
		}
	})
}
