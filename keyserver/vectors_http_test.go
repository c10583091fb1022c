package keyserver_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// serverToTry names a running server of any implementation that
// TestVectorsHTTP talks to instead of one of ours, e.g. "http://127.0.0.1:8080".
const serverToTry = "CLOUDMLS_KEYSERVER_URL"

type httpVectors struct {
	Comment   string
	Scenarios []struct {
		Name  string
		Make  map[string]string
		Steps []httpStep
	}
}

// httpStep is one request and what is said of its answer.
type httpStep struct {
	Method, Path, Token, Media, Raw string
	RawHex                          string `json:"raw_hex"`
	Headers                         map[string]string
	Body                            any
	Refresh                         *struct{ Token, Key string }

	Status int
	Code   string
	Has    []string
	Equals map[string]any
	Save   map[string]string
	Keep   string
	Same   string
}

// The runner reaches a server by its URL alone, with real time.
func TestVectorsHTTPAtAURL(t *testing.T) {
	n := newNode(t, keyserver.Options{Store: newStore(t), Origin: "https://elsewhere.example", Limits: keyserver.DefaultLimits()})
	t.Setenv(serverToTry, n.url+"/")
	TestVectorsHTTP(t)
}

// talk is a scenario under way.
type talk struct {
	t      *testing.T
	url    string
	origin string
	now    func() time.Time
	vars   map[string]string
	keys   map[string]ed25519.PrivateKey
	kept   map[string][]byte
}

func TestVectorsHTTP(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("..", "docs", "spec", "vectors", "keyserver-http.json"))
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var v httpVectors
	if err := d.Decode(&v); err != nil || len(v.Scenarios) == 0 {
		t.Fatal(err)
	}
	url, now := os.Getenv(serverToTry), time.Now
	if url == "" {
		w := newWorld(t, keyserver.Options{})
		url, now = w.URL, w.clock.now
	}
	for _, s := range v.Scenarios {
		t.Run(s.Name, func(t *testing.T) {
			k := &talk{t: t, url: strings.TrimRight(url, "/"), now: now, vars: map[string]string{}, keys: map[string]ed25519.PrivateKey{}, kept: map[string][]byte{}}
			_, answer, _ := k.send(&httpStep{Method: "GET", Path: "/v1/server"})
			k.origin, _ = member(answer, "origin").(string)
			for name, kind := range s.Make {
				k.make(name, kind)
			}
			for i := range s.Steps {
				k.step(i, &s.Steps[i])
			}
		})
	}
}

// make gives a variable its value.
func (k *talk) make(name, kind string) {
	switch kind {
	case "octets16":
		k.vars[name] = base64.StdEncoding.EncodeToString(random(16))
	case "octets32":
		k.vars[name] = base64.StdEncoding.EncodeToString(random(32))
	case "hex32":
		k.vars[name] = hex.EncodeToString(random(32))
	case "text32":
		k.vars[name] = hex.EncodeToString(random(16))
	case "name":
		k.vars[name] = "vector-" + hex.EncodeToString(random(8))
	case "key":
		k.keys[name] = newKey()
		k.vars[name] = base64.StdEncoding.EncodeToString(public(k.keys[name]))
	default:
		k.t.Fatalf("variable %s of unknown kind %q", name, kind)
	}
}

// fill puts variables in place of ${name}.
func (k *talk) fill(v any) any {
	switch v := v.(type) {
	case string:
		for name, value := range k.vars {
			v = strings.ReplaceAll(v, "${"+name+"}", value)
		}
		return v
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = k.fill(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for name := range v {
			out[name] = k.fill(v[name])
		}
		return out
	}
	return v
}

func (k *talk) body(s *httpStep) []byte {
	switch {
	case s.Raw != "":
		return []byte(s.Raw)
	case s.RawHex != "":
		b, err := hex.DecodeString(s.RawHex)
		if err != nil {
			k.t.Fatal(err)
		}
		return b
	case s.Refresh != nil:
		token, err := base64.StdEncoding.DecodeString(k.vars[s.Refresh.Token])
		if err != nil {
			k.t.Fatal(err)
		}
		r := keyapi.RefreshRequest{RefreshToken: token, Time: k.now()}
		r.Signature = ed25519.Sign(k.keys[s.Refresh.Key], keyapi.RefreshSigningInput(k.origin, r))
		return k.json(r)
	case s.Body != nil:
		return k.json(k.fill(s.Body))
	}
	return nil
}

func (k *talk) json(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		k.t.Fatal(err)
	}
	return b
}

func (k *talk) send(s *httpStep) (int, any, []byte) {
	k.t.Helper()
	body := k.body(s)
	r, err := http.NewRequestWithContext(k.t.Context(), s.Method, k.url+k.fill(s.Path).(string), bytes.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if s.Media != "" {
		r.Header.Set("Content-Type", s.Media)
	}
	for name, value := range s.Headers {
		r.Header.Set(name, k.fill(value).(string))
	}
	if s.Token != "" {
		r.Header.Set("Authorization", "Bearer "+k.vars[s.Token])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		k.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		k.t.Fatal(err)
	}
	var answer any
	if len(b) > 0 {
		if err := json.Unmarshal(b, &answer); err != nil {
			k.t.Fatalf("%s %s: the answer is not JSON: %q", s.Method, s.Path, b)
		}
	}
	if want := "application/json"; len(b) > 0 {
		if resp.StatusCode >= 400 {
			want = "application/problem+json"
		}
		if kind := resp.Header.Get("Content-Type"); kind != want {
			k.t.Errorf("%s %s: %s, want %s", s.Method, s.Path, kind, want)
		}
	}
	return resp.StatusCode, answer, b
}

func (k *talk) step(i int, s *httpStep) {
	k.t.Helper()
	status, answer, raw := k.send(s)
	if status != s.Status {
		k.t.Fatalf("step %d, %s %s: %d %s, want %d", i, s.Method, s.Path, status, raw, s.Status)
	}
	if status >= 400 && (member(answer, "code") != any(s.Code) || member(answer, "status") != any(float64(status))) {
		k.t.Errorf("step %d, %s %s: %s, want code %s", i, s.Method, s.Path, raw, s.Code)
	}
	for _, path := range s.Has {
		if member(answer, path) == nil {
			k.t.Errorf("step %d, %s %s: no %s in %s", i, s.Method, s.Path, path, raw)
		}
	}
	for path, want := range s.Equals {
		if got := member(answer, path); !reflect.DeepEqual(got, k.fill(want)) {
			k.t.Errorf("step %d, %s %s: %s is %v, want %v", i, s.Method, s.Path, path, got, k.fill(want))
		}
	}
	for name, path := range s.Save {
		value, ok := member(answer, path).(string)
		if !ok {
			k.t.Fatalf("step %d, %s %s: no %s to save", i, s.Method, s.Path, path)
		}
		k.vars[name] = value
	}
	if s.Keep != "" {
		k.kept[s.Keep] = raw
	}
	if s.Same != "" && !bytes.Equal(raw, k.kept[s.Same]) {
		k.t.Errorf("step %d, %s %s: another answer than before: %s", i, s.Method, s.Path, raw)
	}
}

// member finds "a.0.b" in an answer.
func member(v any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(x) {
				return nil
			}
			v = x[i]
		default:
			return nil
		}
	}
	return v
}

// The runner itself fails where an answer is not as it should be: a vector that
// says something else of the server's answer is not passed over.
func TestVectorsHTTPCanFail(t *testing.T) {
	answer := map[string]any{"a": []any{map[string]any{"b": 1.0}}}
	for path, want := range map[string]any{"a.0.b": 1.0, "a.1.b": nil, "a.x": nil, "c": nil} {
		if got := member(answer, path); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v", path, got)
		}
	}
}
