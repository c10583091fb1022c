package keyserver_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

func (w *world) ask(method, path, token, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	rec := httptest.NewRecorder()
	w.Handler.ServeHTTP(rec, r)
	return rec
}

// Every error is a problem document whose status is that of the answer.
func TestFlaw22_ErrorsAreProblemDocuments(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	nested := strings.Repeat(`{"put":[`, 20) + strings.Repeat(`]}`, 20)
	rows := []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"no such path", "GET", "/v1/nothing", "", 404, keyapi.CodeNoRoute},
		{"the root", "GET", "/", "", 404, keyapi.CodeNoRoute},
		{"no such method", "DELETE", "/v1/objects", "", 405, keyapi.CodeNoRoute},
		{"no body", "POST", "/v1/tx", "", 400, keyapi.CodeInvalid},
		{"not JSON", "POST", "/v1/tx", "<html>", 400, keyapi.CodeInvalid},
		{"cut short", "POST", "/v1/tx", `{"put":[`, 400, keyapi.CodeInvalid},
		{"two values", "POST", "/v1/tx", `{} {}`, 400, keyapi.CodeInvalid},
		{"an array", "POST", "/v1/tx", `[]`, 400, keyapi.CodeInvalid},
		{"unknown member", "POST", "/v1/tx", `{"puts":[]}`, 400, keyapi.CodeInvalid},
		{"other spelling", "POST", "/v1/tx", `{"Put":[]}`, 400, keyapi.CodeInvalid},
		{"member twice", "POST", "/v1/tx", `{"put":[],"put":[]}`, 400, keyapi.CodeInvalid},
		{"nested deeply", "POST", "/v1/tx", nested, 400, keyapi.CodeInvalid},
		{"not UTF-8", "POST", "/v1/auth/params", "{\"username\":\"\xff\"}", 400, keyapi.CodeInvalid},
		{"wrong type", "POST", "/v1/auth/params", `{"username":{"$ne":1}}`, 400, keyapi.CodeInvalid},
		{"no password", "POST", "/v1/auth/login", `{"username":"alice"}`, 400, keyapi.CodeInvalid},
		{"bad object id", "POST", "/v1/objects", `{"ids":["12"]}`, 400, keyapi.CodeInvalid},
		{"bad object", "GET", "/v1/objects/xyz", "", 400, keyapi.CodeInvalid},
		{"bad hash", "GET", "/v1/objects/" + strings.Repeat("00", 32) + "?unless=00", "", 400, keyapi.CodeInvalid},
		{"bad buckets", "GET", "/v1/objects?buckets=" + strings.Repeat("g", 64), "", 400, keyapi.CodeInvalid},
		{"bad conversation", "GET", "/v1/conversations/xyz", "", 400, keyapi.CodeInvalid},
		{"bad cursor", "GET", "/v1/delivery/email/x?after=-1", "", 400, keyapi.CodeInvalid},
		{"bad wait", "GET", "/v1/delivery/email/x?wait=61", "", 400, keyapi.CodeInvalid},
		{"unknown parameter", "GET", "/v1/delivery/email/x?aftr=1", "", 400, keyapi.CodeInvalid},
		{"too large", "POST", "/v1/auth/params", `{"username":"` + strings.Repeat("x", 70<<10) + `"}`, 413, keyapi.CodeTooLarge},
		{"no conversation", "GET", "/v1/conversations/00000000000000000000000000000000", "", 404, keyapi.CodeNotFound},
		{"no account", "POST", "/v1/keypackages/email/x/claim", "", 404, keyapi.CodeNoAccount},
	}
	for _, row := range rows {
		rec := w.ask(row.method, row.path, p.token(), row.body)
		var problem keyapi.Problem
		if err := json.Unmarshal(rec.Body.Bytes(), &problem); err != nil {
			t.Errorf("%s: %d, not JSON: %q", row.name, rec.Code, rec.Body)
			continue
		}
		if rec.Code != row.status || problem.Status != row.status || problem.Code != row.code {
			t.Errorf("%s: %d %+v, want %d %s", row.name, rec.Code, problem, row.status, row.code)
		}
		if ct := rec.Header().Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("%s: content type %q", row.name, ct)
		}
		if strings.Contains(rec.Body.String(), strings.Repeat("x", 100)) || strings.Contains(rec.Body.String(), "<html>") {
			t.Errorf("%s: the answer quotes the request", row.name)
		}
	}
}

// F22, F23: a request without a valid token is 401 on every route that needs
// one, whatever else is wrong with it.
func TestFlaw22_Flaw23_EveryRouteButSevenNeedsAToken(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	rec := w.ask("GET", "/openapi.json", "", "")
	var api struct {
		OpenAPI string
		Paths   map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &api); err != nil || !strings.HasPrefix(api.OpenAPI, "3.1") {
		t.Fatalf("OpenAPI document: %d, %q, %v", rec.Code, api.OpenAPI, err)
	}
	open := map[string]bool{
		"get /v1/server": true, "get /v1/keys": true, "post /v1/auth/params": true, "post /v1/auth/register": true,
		"post /v1/auth/login": true, "post /v1/auth/refresh": true, "post /v1/auth/recover": true,
	}
	routes := 0
	for path, methods := range api.Paths {
		for method := range methods {
			routes++
			target := strings.NewReplacer("{platform}", "email", "{id}", "x", "{conversation}", "00", "{session}", "00").Replace(path)
			rec := w.ask(strings.ToUpper(method), target, "", "")
			if (rec.Code != 401) != open[method+" "+path] {
				t.Errorf("%s %s without a token: %d", method, path, rec.Code)
			}
		}
	}
	if routes != 31 {
		t.Errorf("%d routes, want 31", routes)
	}
}

func TestServerSaysWhatItIs(t *testing.T) {
	w := newWorld(t, keyserver.Options{RequireProof: []string{"email"}})
	info, err := w.c.Server(t.Context())
	if err != nil || info.Origin != w.Origin || fmt.Sprint(info.CipherSuites) != "[1 62586]" || fmt.Sprint(info.ProofNeeded) != "[email]" {
		t.Errorf("%+v, %v", info, err)
	}
}

func TestNewNamesTheBadOption(t *testing.T) {
	for _, o := range []keyserver.Options{{}, {Origin: "x"}} {
		if _, err := keyserver.New(o); err == nil || !strings.Contains(err.Error(), "Store") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestPanicsBecomeProblems(t *testing.T) {
	w := newWorld(t, keyserver.Options{RequireProof: []string{"email"}, Challengers: map[string]keyserver.Challenger{"email": (*brokenCarrier)(nil)}})
	p := w.register("alice")
	_, err := p.challenge(keyapi.Account{Platform: "email", ID: "x@example.org"})
	problem := wantCode(t, err, keyapi.CodeInternal)
	if problem.Status != http.StatusInternalServerError || strings.Contains(problem.Detail, "nil pointer") {
		t.Errorf("problem: %+v", problem)
	}
}

// Users who announce long bodies and do not send them keep nobody from sending
// long ones, themselves included: what counts is what has come.
func TestSlowBodiesHoldNobodyUp(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	entered, release := make(chan struct{}), make(chan struct{})
	codes := make(chan int)
	send := func(p *person, length int64, body io.Reader) {
		r := httptest.NewRequest("POST", "/v1/tx", body)
		r.ContentLength = length
		r.Header.Set("Authorization", "Bearer "+p.token())
		codes <- serve(w, r)
	}
	const users, each = 4, 4
	var slow *person
	for i := range users {
		slow = w.person(fmt.Sprint("slow", i))
		for n := range each {
			go send(slow, []int64{-1, 60 << 20}[n%2], &slowBody{entered: entered, release: release})
			<-entered
		}
	}
	long := fmt.Sprintf(`{"put":[{"id":"%x","counter":1,"data":"%s"}]}`, objectID("long"), strings.Repeat("AAAA", 2<<20))
	for _, p := range []*person{w.person("bob"), slow} {
		for range 2 { // the second one finds that it was sent
			go send(p, int64(len(long)), strings.NewReader(long))
			if code := <-codes; code != 200 {
				t.Errorf("a long body of %s: %d", p.name, code)
			}
		}
	}
	go send(slow, -1, strings.NewReader(strings.Repeat(" ", keyapi.MaxTxSize)))
	if code := <-codes; code != http.StatusRequestEntityTooLarge {
		t.Errorf("a body without end: %d", code)
	}
	close(release)
	for range users * each {
		if code := <-codes; code != 200 {
			t.Errorf("slow body: %d", code)
		}
	}
}

// Whoever does not read what a lost race for an epoch tells holds the Commit that
// won in memory: these octets count like those of other answers, and a large body
// that asked for it makes room for the next one when its answer begins.
func TestWinnersAreFewAtATime(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	p := w.person("alice")
	g := newGroup()
	p.mustCommit(g, g.create(p.account, strings.Repeat("x", 15<<20)))
	late := *g
	late.epoch = 0
	c := late.commit(p.account, "too late", p.account)
	const readers = 12
	begun, release, done := make(chan struct{}, readers), make(chan struct{}), make(chan int, readers)
	for i := range readers {
		c := *c
		if i < 3 {
			c.Commit = make([]byte, 4<<20) // more than two are worked on
		}
		body, err := json.Marshal(keyapi.Tx{Nonce: []byte{byte(i)}, Commit: &c})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			r := httptest.NewRequest("POST", "/v1/tx", bytes.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+p.token())
			s := &stalled{begun: begun, release: release}
			w.Handler.ServeHTTP(s, r)
			done <- s.Code
		}()
		if i < 3 {
			<-begun
		}
	}
	refused, waiting := 0, 3
	for refused+waiting < readers {
		select {
		case <-begun:
			waiting++
		case code := <-done:
			if code != http.StatusTooManyRequests {
				t.Errorf("refused with %d", code)
			}
			refused++
		}
	}
	if waiting > 8 || refused == 0 {
		t.Errorf("%d answers of 15 MiB in memory for one user", waiting)
	}
	close(release)
	for range waiting {
		if code := <-done; code != http.StatusConflict {
			t.Errorf("answer %d", code)
		}
	}
}

// slowBody is "{}", which comes when it is released.
type slowBody struct {
	entered chan<- struct{}
	release <-chan struct{}
	done    bool
}

func (b *slowBody) Read(p []byte) (int, error) {
	if b.done {
		return 0, io.EOF
	}
	b.entered <- struct{}{}
	<-b.release
	b.done = true
	return copy(p, "{}"), nil
}
