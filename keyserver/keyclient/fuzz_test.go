package keyclient_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// said is a server that gives one answer to everything.
type said struct {
	status int
	kind   string
	body   []byte
}

func (s *said) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: s.status, Header: http.Header{"Content-Type": {s.kind}}, Body: io.NopCloser(bytes.NewReader(s.body)), Request: r,
	}, nil
}

// FuzzAnswers gives anything as the answer of every method, in both encodings. An
// error is the key server's own problem, of a document that says the status which it
// came with, or says nothing; and what is no error came whole with 200 or 204.
func FuzzAnswers(f *testing.F) {
	text := strings.Repeat("A", 43) + "="
	id := strings.Repeat("A", 22) + "=="
	for _, s := range []said{
		{200, "application/json", []byte(`{"user_id":"` + id + `","session_id":"` + id + `","access_token":"t","refresh_token":"` + text +
			`","notices":[{"kind":"token_reused","at":"2026-01-02T03:04:05Z","session_id":"` + id + `","device":{"name":"x","key":"` + text + `"}}]}`)},
		{200, "application/json", []byte(`{"sessions":[{"session_id":"` + id + `","device":{"name":"","key":"` + text + `"}}],"accounts":[],"objects":[],"deliveries":[]}`)},
		{200, "application/json", []byte(`{"place":"here","directions":{"counter":1,"data":"AA=="},"applied":true,"origin":"x","versions":["v1"]}`)},
		{200, "application/cbor", []byte{0xa1, 0x67, 'a', 'p', 'p', 'l', 'i', 'e', 'd', 0xf5}},
		{204, "", nil},
		{409, "application/problem+json", []byte(`{"status":409,"code":"conflict","have":[{"id":"` + strings.Repeat("00", 32) + `","counter":1}]}`)},
		{404, "application/problem+json; charset=utf-8", []byte(`{"status":404,"code":"conflict"}`)},
		{503, "text/html", []byte("<html>")},
	} {
		f.Add(s.status, s.kind, s.body, false)
		f.Add(s.status, s.kind, s.body, true)
	}
	server := &said{}
	var clients [2]*keyclient.Client
	for i := range clients {
		var err error
		if clients[i], err = keyclient.New(keyclient.Options{URL: "https://keys.example", CBOR: i == 1, HTTPClient: &http.Client{Transport: server}}); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, status int, kind string, body []byte, cbor bool) {
		if status < 200 || status > 599 {
			return // net/http gives no others
		}
		*server = said{status, kind, body}
		c := clients[0]
		if cbor {
			c = clients[1]
		}
		for name, ask := range calls(t.Context(), c) {
			err := ask()
			var p *keyapi.Problem
			switch {
			case err == nil:
				if status != http.StatusOK && status != http.StatusNoContent {
					t.Errorf("%s takes %d for success", name, status)
				}
			case errors.As(err, &p):
				if p.Status != status || status < 400 || !strings.HasPrefix(strings.ToLower(strings.TrimSpace(kind)), "application/problem+json") {
					t.Errorf("%s takes %d %q for the problem %+v", name, status, kind, p)
				}
			case !errors.Is(err, keyclient.ErrUnavailable):
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
