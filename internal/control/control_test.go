package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// recorder is a Service that remembers what it was asked and answers with
// values in every field.
type recorder struct {
	mu    sync.Mutex
	asked []string
	fail  error
}

func (r *recorder) ask(parts ...any) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, strings.TrimSpace(fmt.Sprintln(parts...)))
	return r.fail
}

var someTime = time.Date(2026, 11, 23, 10, 0, 0, 123456789, time.UTC)

// filled gives a value with something in each field.
func filled[T any]() *T {
	v := new(T)
	fill(reflect.ValueOf(v).Elem())
	return v
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(someTime))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte{1, 2, 255})
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.String:
		v.SetString("a \"b\" <ü>\n")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(1<<53 - 1)
	case reflect.Uint64:
		v.SetUint(1<<64 - 1)
	default:
		panic(v.Kind())
	}
}

func (r *recorder) Status(context.Context) (*Status, error) { return filled[Status](), r.ask("status") }
func (r *recorder) Reload(context.Context) (*Reloaded, error) {
	return filled[Reloaded](), r.ask("reload")
}
func (r *recorder) Sync(_ context.Context, a string) (*Synced, error) {
	return filled[Synced](), r.ask("sync", a)
}
func (r *recorder) Conversations(_ context.Context, a string) ([]Conversation, error) {
	return []Conversation{*filled[Conversation]()}, r.ask("conversations", a)
}
func (r *recorder) Conversation(_ context.Context, a, id string) (*Conversation, error) {
	return filled[Conversation](), r.ask("conversation", a, id)
}
func (r *recorder) RemoveMembers(_ context.Context, a, id string, m []string) (*Conversation, error) {
	return filled[Conversation](), r.ask("remove", a, id, m)
}
func (r *recorder) LeaveConversation(_ context.Context, a, id string) error {
	return r.ask("leave", a, id)
}
func (r *recorder) RenewConversation(_ context.Context, a, id string) (*Conversation, error) {
	return filled[Conversation](), r.ask("renew", a, id)
}
func (r *recorder) Contacts(_ context.Context, a string) ([]Contact, error) {
	return []Contact{*filled[Contact](), {}}, r.ask("contacts", a)
}
func (r *recorder) Contact(_ context.Context, a, b string) (*Contact, error) {
	return filled[Contact](), r.ask("contact", a, b)
}
func (r *recorder) ContactCode(_ context.Context, a, b string) (*ContactCode, error) {
	return filled[ContactCode](), r.ask("code", a, b)
}
func (r *recorder) VerifyContact(_ context.Context, a, b, code string, key []byte) (*Contact, error) {
	return filled[Contact](), r.ask("verify", a, b, code, key)
}
func (r *recorder) UnverifyContact(_ context.Context, a, b string) (*Contact, error) {
	return filled[Contact](), r.ask("unverify", a, b)
}
func (r *recorder) AcceptContact(_ context.Context, a, b string, key []byte) (*Contact, error) {
	return filled[Contact](), r.ask("accept", a, b, key)
}
func (r *recorder) Devices(context.Context) ([]Device, error) {
	return []Device{*filled[Device]()}, r.ask("devices")
}
func (r *recorder) Store(context.Context) (*StoreStatus, error) {
	return filled[StoreStatus](), r.ask("store")
}
func (r *recorder) RevokeDevice(_ context.Context, id string) error { return r.ask("revoke", id) }
func (r *recorder) ChangePassword(_ context.Context, old, new Secret) error {
	return r.ask("password", string(old), string(new))
}

// privateDir is a folder that only its owner may enter.
func privateDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serve runs a service on a socket until the test ends.
func serve(t *testing.T, socket string, s Service, log *slog.Logger) (stop func()) {
	t.Helper()
	ln, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, ln, s, log) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func dial(t *testing.T, socket string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // it never fails
	return c
}

// calls makes each call of a Service once.
func calls(ctx context.Context, s Service) []struct {
	asked string
	call  func() (any, error)
	want  any
} {
	type entry = struct {
		asked string
		call  func() (any, error)
		want  any
	}
	two := func(v any, err error) (any, error) { return v, err }
	return []entry{
		{"status", func() (any, error) { return two(s.Status(ctx)) }, filled[Status]()},
		{"reload", func() (any, error) { return two(s.Reload(ctx)) }, filled[Reloaded]()},
		{"sync a@b", func() (any, error) { return two(s.Sync(ctx, "a@b")) }, filled[Synced]()},
		{"conversations a@b", func() (any, error) { return two(s.Conversations(ctx, "a@b")) }, []Conversation{*filled[Conversation]()}},
		{"conversation a@b 00ff", func() (any, error) { return two(s.Conversation(ctx, "a@b", "00ff")) }, filled[Conversation]()},
		{"remove a@b 00ff [x@y z@y]", func() (any, error) { return two(s.RemoveMembers(ctx, "a@b", "00ff", []string{"x@y", "z@y"})) }, filled[Conversation]()},
		{"leave a@b 00ff", func() (any, error) { return nil, s.LeaveConversation(ctx, "a@b", "00ff") }, nil},
		{"renew a@b 00ff", func() (any, error) { return two(s.RenewConversation(ctx, "a@b", "00ff")) }, filled[Conversation]()},
		{"contacts a@b", func() (any, error) { return two(s.Contacts(ctx, "a@b")) }, []Contact{*filled[Contact](), {}}},
		{"contact a@b c@d", func() (any, error) { return two(s.Contact(ctx, "a@b", "c@d")) }, filled[Contact]()},
		{"code a@b c@d", func() (any, error) { return two(s.ContactCode(ctx, "a@b", "c@d")) }, filled[ContactCode]()},
		{"verify a@b c@d 12345 [1 2]", func() (any, error) { return two(s.VerifyContact(ctx, "a@b", "c@d", "12345", []byte{1, 2})) }, filled[Contact]()},
		{"unverify a@b c@d", func() (any, error) { return two(s.UnverifyContact(ctx, "a@b", "c@d")) }, filled[Contact]()},
		{"accept a@b c@d [3]", func() (any, error) { return two(s.AcceptContact(ctx, "a@b", "c@d", []byte{3})) }, filled[Contact]()},
		{"devices", func() (any, error) { return two(s.Devices(ctx)) }, []Device{*filled[Device]()}},
		{"store", func() (any, error) { return two(s.Store(ctx)) }, filled[StoreStatus]()},
		{"revoke d1", func() (any, error) { return nil, s.RevokeDevice(ctx, "d1") }, nil},
		{"password old ü\"\\ new", func() (any, error) { return nil, s.ChangePassword(ctx, "old ü\"\\", "new") }, nil},
	}
}

// TestEveryCallCrossesTheSocket: arguments and answers arrive as they were,
// field by field.
func TestEveryCallCrossesTheSocket(t *testing.T) {
	socket := filepath.Join(privateDir(t), SocketName)
	r := &recorder{}
	serve(t, socket, r, nil)
	all := calls(t.Context(), dial(t, socket))
	if n := reflect.TypeFor[Service]().NumMethod(); n != len(all) || n != len(operations()) {
		t.Errorf("%d methods, %d calls here, %d operations", n, len(all), len(operations()))
	}
	for _, c := range all {
		got, err := c.call()
		if err != nil {
			t.Errorf("%s: %v", c.asked, err)
			continue
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got\n%+v, want\n%+v", c.asked, got, c.want)
		}
		if last := r.asked[len(r.asked)-1]; last != c.asked {
			t.Errorf("the service was asked %q, want %q", last, c.asked)
		}
	}
}

// TestErrorsCrossTheSocket: typed ones as they are, others with their text.
func TestErrorsCrossTheSocket(t *testing.T) {
	socket := filepath.Join(privateDir(t), SocketName)
	r := &recorder{}
	serve(t, socket, r, nil)
	c := dial(t, socket)
	for code := range statuses {
		r.fail = fmt.Errorf("wrapped: %w", &Error{Code: code, Message: "what", Hint: "do this", Err: errors.New("cause")})
		for _, x := range calls(t.Context(), c) {
			_, err := x.call()
			var e *Error
			if !errors.As(err, &e) || *e != (Error{Code: code, Message: "what", Hint: "do this"}) || !errors.Is(err, &Error{Code: code}) || CodeOf(err) != code {
				t.Errorf("%s, %s: %#v", x.asked, code, err)
			}
		}
	}
	r.fail = errors.New("plain")
	if _, err := c.Status(t.Context()); CodeOf(err) != CodeInternal || err.Error() != "plain" {
		t.Errorf("an untyped error: %v", err)
	}
}

// TestSecretsAreNotLogged: neither by the server, whatever happens, nor by
// printing what holds them.
func TestSecretsAreNotLogged(t *testing.T) {
	const canary = "canary-password"
	var b bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	socket := filepath.Join(privateDir(t), SocketName)
	r := &recorder{fail: &Error{Code: CodeDenied, Message: "the password is wrong"}}
	stop := serve(t, socket, r, log)
	if err := dial(t, socket).ChangePassword(t.Context(), canary, canary); CodeOf(err) != CodeDenied {
		t.Error(err)
	}
	stop()
	log.Info("x", "secret", Secret(canary), "several", []Secret{canary})
	fmt.Fprintf(&b, "%v %s %q %#v %+v", Secret(canary), Secret(canary), Secret(canary), Secret(canary), struct{ S Secret }{canary})
	if !strings.Contains(b.String(), "command failed") || strings.Contains(b.String(), canary) {
		t.Errorf("log:\n%s", b.String())
	}
}

// TestStrictRequests: what is not exactly a request is refused, and does not
// reach the service.
func TestStrictRequests(t *testing.T) {
	r := &recorder{}
	h := newHandler(r, slog.New(slog.DiscardHandler))
	for name, c := range map[string]struct {
		method, path, contentType, body string
		want                            int
	}{
		"good":             {"POST", "/v1/sync", "application/json", `{"account":"a@b"}`, 200},
		"charset":          {"POST", "/v1/sync", "application/json; charset=utf-8", ` {"account":"a@b"} `, 200},
		"unknown field":    {"POST", "/v1/sync", "application/json", `{"account":"a@b","x":1}`, 400},
		"doubled field":    {"POST", "/v1/sync", "application/json", `{"account":"a@b","account":"c@d"}`, 400},
		"doubled by case":  {"POST", "/v1/sync", "application/json", `{"account":"a@b","Account":"c@d"}`, 400},
		"behind it":        {"POST", "/v1/sync", "application/json", `{"account":"a@b"}{}`, 400},
		"wrong type":       {"POST", "/v1/sync", "application/json", `{"account":1}`, 400},
		"array":            {"POST", "/v1/sync", "application/json", `[]`, 400},
		"null":             {"POST", "/v1/sync", "application/json", `null`, 400},
		"empty":            {"POST", "/v1/status", "application/json", ``, 400},
		"broken":           {"POST", "/v1/sync", "application/json", `{"account":"a@b"`, 400},
		"not UTF-8":        {"POST", "/v1/sync", "application/json", "{\"account\":\"\xff\"}", 400},
		"deep":             {"POST", "/v1/sync", "application/json", `{"account":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, 400},
		"too long":         {"POST", "/v1/sync", "application/json", `{"account":"` + strings.Repeat("a", maxRequest) + `"}`, 400},
		"GET":              {"GET", "/v1/status", "application/json", ``, 400},
		"form":             {"POST", "/v1/status", "application/x-www-form-urlencoded", `{}`, 400},
		"no type":          {"POST", "/v1/status", "", `{}`, 400},
		"unknown":          {"POST", "/v1/shutdown", "application/json", `{}`, 404},
		"another version":  {"POST", "/v2/status", "application/json", `{}`, 404},
		"behind operation": {"POST", "/v1/status/", "application/json", `{}`, 404},
	} {
		r.asked = nil
		req, err := http.NewRequest(c.method, "http://x"+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		if c.contentType != "" {
			req.Header.Set("Content-Type", c.contentType)
		}
		w := &responseRecorder{header: http.Header{}}
		h.ServeHTTP(w, req)
		if w.status != c.want || (len(r.asked) > 0) != (c.want == 200) {
			t.Errorf("%s: %d %s, asked %q; want %d", name, w.status, w.body.String(), r.asked, c.want)
		}
		if w.status != 200 {
			var e Error
			if err := decode(w.body.Bytes(), &e); err != nil || e.Code == "" || e.Message == "" {
				t.Errorf("%s: the error is %s", name, w.body.String())
			}
		}
	}
}

type responseRecorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *responseRecorder) Header() http.Header         { return w.header }
func (w *responseRecorder) WriteHeader(status int)      { w.status = status }
func (w *responseRecorder) Write(p []byte) (int, error) { return w.body.Write(p) }

// TestStrictAnswers: a client does not take whatever it is told.
func TestStrictAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
		code   Code
	}{
		"good":            {200, `{"processed":1}`, ""},
		"unknown field":   {200, `{"processed":1,"later":2}`, CodeVersion},
		"no JSON":         {200, `hello`, CodeVersion},
		"error":           {503, `{"code":"unavailable","message":"m"}`, CodeUnavailable},
		"error, no text":  {503, `{"code":"unavailable","message":""}`, CodeVersion},
		"error, no JSON":  {500, `oops`, CodeVersion},
		"redirect":        {302, ``, CodeVersion},
		"doubled members": {200, `{"processed":1,"processed":2}`, CodeVersion},
	} {
		_, err := read[Synced](c.status, []byte(c.body))
		if (err == nil) != (c.code == "") || err != nil && CodeOf(err) != c.code {
			t.Errorf("%s: %v, want %q", name, err, c.code)
		}
	}
}

// TestStoppingEndsCalls: a call under way sees its context end.
func TestStoppingEndsCalls(t *testing.T) {
	socket := filepath.Join(privateDir(t), SocketName)
	s := &hanging{begun: make(chan struct{})}
	stop := serve(t, socket, s, nil)
	c := dial(t, socket)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Status(context.Background())
		ended <- err
	}()
	<-s.begun
	stop()
	if err := <-ended; err == nil {
		t.Error("a call survived the end of the gateway")
	}
	if _, err := Dial(t.Context(), socket); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Dial after the end: %v", err)
	}
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

type hanging struct {
	recorder
	begun chan struct{}
}

func (h *hanging) Status(ctx context.Context) (*Status, error) {
	close(h.begun)
	<-ctx.Done()
	return nil, ctx.Err()
}

var _ net.Listener = (*listener)(nil)
