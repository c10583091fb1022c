package evil

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
)

// Exchange is one request and its answer. An attack may change what it sends on
// (Sent) before it lets the request through, and what is answered after.
type Exchange struct {
	Device string // whose client asks; "" for one that was not made by Server.Client
	Method string
	Path   string // unescaped, such as "/v1/delivery/email/bob@example.org"

	Request  *http.Request // as it arrived; its body is Sent
	Sent     []byte
	Status   int // of the answer; 0: the connection breaks instead
	Header   http.Header
	Answered []byte

	arrived []byte // Sent as the client sent it
}

// NewExchange reads a request that a device made.
func NewExchange(device string, r *http.Request) (*Exchange, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return &Exchange{
		Device: device, Method: r.Method, Path: r.URL.Path, Request: r, Sent: body, arrived: body, Header: http.Header{},
	}, nil
}

// receive is NewExchange for a request that says by its path whose it is.
func receive(r *http.Request) (*Exchange, error) {
	e, err := NewExchange("", r)
	if err != nil {
		return nil, err
	}
	if rest, ok := strings.CutPrefix(r.URL.EscapedPath(), devicePath); ok {
		e.Device, rest, _ = strings.Cut(rest, "/")
		u, err := url.ParseRequestURI("/" + rest)
		if err != nil {
			return nil, err
		}
		u.RawQuery = r.URL.RawQuery
		r.URL, r.RequestURI = u, u.RequestURI()
	}
	e.Path = r.URL.Path
	return e, nil
}

// Serve lets the request through to an honest server and takes its answer.
func (e *Exchange) Serve(honest http.Handler) {
	r := e.Request.Clone(e.Request.Context())
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(e.Sent)), int64(len(e.Sent))
	rec := httptest.NewRecorder()
	honest.ServeHTTP(rec, r)
	e.Status, e.Header, e.Answered = rec.Code, rec.Header(), rec.Body.Bytes()
}

func (e *Exchange) send(w http.ResponseWriter) {
	if e.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	for k, v := range e.Header {
		w.Header()[k] = v
	}
	w.Header().Del("Content-Length")
	if e.Status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(e.Answered)))
	}
	w.WriteHeader(e.Status)
	if e.Status != http.StatusNoContent {
		_, _ = w.Write(e.Answered) // a client that went away is its own affair
	}
}

// Octets is all of the exchange that crossed the wire from the client: request
// line, header and body as they arrived. What a server must not learn is searched
// for in it.
func (e *Exchange) Octets() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\n", e.Method, e.Request.URL.RequestURI())
	_ = e.Request.Header.Write(&b) // a Buffer takes everything
	b.WriteByte('\n')
	b.Write(e.arrived)
	return b.Bytes()
}

// Sent decodes the body of a request.
func Sent[T any](e *Exchange) (T, error) {
	var v T
	err := json.Unmarshal(e.arrived, &v)
	return v, err
}
