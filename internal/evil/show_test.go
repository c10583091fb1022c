package evil_test

import (
	"crypto/sha256"
	"net/http"
	"net/http/httptest"
	"testing"

	"encoding/hex"
	"encoding/json"

	"github.com/cloudmls/gateway/internal/evil"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// TestShow: another state is shown as an honest server would show it, by each of
// the questions that there are; what is refused stays refused.
func TestShow(t *testing.T) {
	t.Parallel()
	a, b := keyapi.ObjectID{8, 1}, keyapi.ObjectID{8, 2}
	shown := evil.State{a: {ID: a, Counter: 3, Data: []byte("older")}}
	status := http.StatusOK
	var m evil.Middle
	m.Always(evil.Any, evil.Show(func() evil.State { return shown }))
	ask := func(method, path, body string) *evil.Exchange {
		t.Helper()
		r := httptest.NewRequest(method, path, nil)
		e, err := evil.NewExchange("a0", r)
		if err != nil {
			t.Fatal(err)
		}
		e.Sent = []byte(body)
		m.Pass(e, func() { e.Status, e.Answered = status, []byte(`{"true":"answer"}`) })
		return e
	}
	var index keyapi.ObjectIndex
	var list keyapi.ObjectList
	decode := func(e *evil.Exchange, v any) {
		t.Helper()
		if err := json.Unmarshal(e.Answered, v); err != nil {
			t.Fatal(err)
		}
	}
	decode(ask("GET", "/v1/objects", ""), &index)
	hash := sha256.Sum256([]byte("older"))
	if len(index.Objects) != 1 || index.Objects[0].ID != a || index.Objects[0].Counter != 3 || string(index.Objects[0].Hash) != string(hash[:]) {
		t.Errorf("index %+v", index)
	}
	var two keyapi.Buckets
	two.Add(2)
	decode(ask("GET", "/v1/objects?buckets="+two.String(), ""), &index)
	if len(index.Objects) != 0 {
		t.Errorf("index of another bucket %+v", index)
	}
	q, err := json.Marshal(keyapi.ObjectsRequest{IDs: []keyapi.ObjectID{a, b}})
	if err != nil {
		t.Fatal(err)
	}
	decode(ask("POST", "/v1/objects", string(q)), &list)
	if len(list.Objects) != 1 || string(list.Objects[0].Data) != "older" || len(list.Missing) != 1 || list.Missing[0] != b {
		t.Errorf("objects %+v", list)
	}
	one := "/v1/objects/" + hex.EncodeToString(a[:])
	for question, unchanged := range map[string]int{one: 0, one + "?unless=" + hex.EncodeToString(hash[:]): 1, one + "?unless=" + hex.EncodeToString(make([]byte, 32)): 0} {
		list = keyapi.ObjectList{}
		decode(ask("GET", question, ""), &list)
		if len(list.Unchanged) != unchanged || len(list.Objects) != 1-unchanged {
			t.Errorf("%s: %+v", question, list)
		}
	}
	status = http.StatusUnauthorized
	if e := ask("GET", "/v1/objects", ""); string(e.Answered) != `{"true":"answer"}` {
		t.Errorf("a refusal became %s", e.Answered)
	}
	status = http.StatusOK
	m.StopAll()
	m.Always(evil.Any, evil.Unchanged)
	list = keyapi.ObjectList{}
	decode(ask("GET", one+"?unless="+hex.EncodeToString(make([]byte, 32)), ""), &list)
	if len(list.Unchanged) != 1 || list.Unchanged[0] != a {
		t.Errorf("unchanged %+v", list)
	}
	if e := ask("GET", "/v1/objects", ""); string(e.Answered) != `{"true":"answer"}` {
		t.Errorf("the index became %s", e.Answered)
	}
}
