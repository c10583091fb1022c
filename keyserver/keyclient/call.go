package keyclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Limits of answers, so that a server cannot exhaust the client's memory.
const (
	smallAnswer = 1 << 20   // sessions, accounts, one KeyPackage
	indexAnswer = 64 << 20  // all object versions of a user
	bulkAnswer  = 128 << 20 // objects, deliveries, problems with a winning Commit
)

// request is one call. A nil body sends none; a nil answer expects 204.
type request struct {
	op     string // method and route; errors show it, so it names no account
	path   string // empty: the route has no variable parts
	base   string // empty: where the role of the route is
	token  string
	body   any
	answer any
	limit  int64
	wait   time.Duration
}

// call makes a request whose answer is a T. check tells what makes an answer
// impossible, "" if nothing. With an error the answer is the zero T.
func call[T any](ctx context.Context, c *Client, r request, check func(*T) string) (T, error) {
	var a, none T
	r.answer = &a
	if err := c.do(ctx, r); err != nil {
		return none, err
	}
	if reason := check(&a); reason != "" {
		return none, &ResponseError{Op: r.op, Status: http.StatusOK, Reason: reason}
	}
	return a, nil
}

// unless gives reason when the answer is not possible.
func unless(possible bool, reason string) string {
	if possible {
		return ""
	}
	return reason
}

func (c *Client) do(ctx context.Context, r request) error {
	op := r.op
	method, route, _ := strings.Cut(op, " ")
	path := r.path
	if path == "" {
		path = route
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout+r.wait)
	defer cancel()
	base, token := r.base, r.token
	if base == "" {
		var err error
		if base, token, err = c.baseOf(ctx, route, r.token); err != nil {
			return fmt.Errorf("key server: %s: token of the store: %w", op, err)
		}
	}
	var body io.Reader = http.NoBody
	if r.body != nil {
		b, err := c.encoding.encode(r.body)
		if err != nil {
			return fmt.Errorf("key server: %s: encode request: %w", op, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, body)
	if err != nil {
		return fmt.Errorf("key server: %s: %w", op, err)
	}
	req.Header.Set("Accept", c.encoding.media)
	setIdempotencyKey(ctx, req.Header)
	if r.body != nil {
		req.Header.Set("Content-Type", c.encoding.media)
		req.GetBody = nil // net/http would send the request a second time by itself
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // u shows the URL, which names the account
		}
		return &TransportError{Op: op, Err: err}
	}
	defer resp.Body.Close()
	return c.readAnswer(op, resp, r)
}

func (c *Client) readAnswer(op string, resp *http.Response, r request) error {
	limit := r.limit
	if limit == 0 {
		limit = smallAnswer
	}
	if resp.StatusCode >= 400 {
		limit = bulkAnswer
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return &TransportError{Op: op, Err: err}
	}
	bad := func(reason string) error {
		return &ResponseError{Op: op, Status: resp.StatusCode, Reason: reason}
	}
	if int64(len(b)) > limit {
		return bad("longer than allowed")
	}
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		kind = ""
	}
	switch {
	case resp.StatusCode >= 400:
		return readProblem(resp.StatusCode, kind, b, bad)
	case r.answer == nil:
		if resp.StatusCode != http.StatusNoContent {
			return bad("expected 204")
		}
		return nil
	case resp.StatusCode != http.StatusOK:
		return bad("expected 200")
	case kind != c.encoding.media:
		return bad("not " + c.encoding.media)
	}
	if err := c.encoding.decode(b, r.answer); err != nil {
		return bad("not the answer expected here")
	}
	return nil
}

func readProblem(status int, kind string, b []byte, bad func(string) error) error {
	if kind != "application/problem+json" {
		return bad("not a problem document")
	}
	var p keyapi.Problem
	if err := json.Unmarshal(b, &p); err != nil {
		return bad("problem document cannot be read")
	}
	if p.Status != status || !slices.Contains(statusOf[p.Code], status) {
		return bad("problem document does not fit its status")
	}
	return &p
}

// accountPath builds prefix/{platform}/{id}suffix. Dots are escaped too, so
// that an id of "." or ".." survives whatever tidies paths on the way.
func accountPath(prefix string, a keyapi.Account, suffix string) string {
	esc := func(s string) string { return strings.ReplaceAll(url.PathEscape(s), ".", "%2E") }
	return prefix + "/" + esc(a.Platform) + "/" + esc(a.ID) + suffix
}
