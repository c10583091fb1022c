package keyserver

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// problem is a keyapi.Problem as huma wants errors. Everything that a client
// reads as an error is made in this file.
type problem struct {
	*keyapi.Problem
	retryAfter time.Duration
}

var (
	_ huma.StatusError       = (*problem)(nil)
	_ huma.ContentTypeFilter = (*problem)(nil)
	_ huma.HeadersError      = (*problem)(nil)
)

// GetStatus is the HTTP status.
func (p *problem) GetStatus() int { return p.Status }

// ContentType is that of RFC 9457.
func (p *problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders adds Retry-After and the challenge of RFC 6750.
func (p *problem) GetHeaders() http.Header {
	h := http.Header{}
	if p.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.retryAfter+time.Second-1)/time.Second)))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	return h
}

func newProblem(status int, code, detail string) *problem {
	return &problem{Problem: &keyapi.Problem{
		Type: "urn:cloudmls:problem:" + code, Title: http.StatusText(status), Status: status, Code: code, Detail: detail,
	}}
}

func invalid(detail string) error {
	return newProblem(http.StatusBadRequest, keyapi.CodeInvalid, detail)
}

// wrongClock tells a device the time, so that it can sign again: it bounds how
// long a request that somebody has kept is of use, not who has the right time.
func wrongClock(now time.Time) error {
	p := newProblem(http.StatusBadRequest, keyapi.CodeClock, "time differs by more than an hour from the server's")
	now = now.UTC()
	p.Now = &now
	return p
}

func unauthorized(detail string) error {
	return newProblem(http.StatusUnauthorized, keyapi.CodeUnauthorized, detail)
}

func forbidden(detail string) error {
	return newProblem(http.StatusForbidden, keyapi.CodeForbidden, detail)
}

func verificationRequired(detail string) error {
	return newProblem(http.StatusForbidden, keyapi.CodeVerificationRequired, detail)
}

func notFound(code, detail string) error { return newProblem(http.StatusNotFound, code, detail) }

func conflict(code, detail string) *problem { return newProblem(http.StatusConflict, code, detail) }

func quota(detail string) error {
	return newProblem(http.StatusInsufficientStorage, keyapi.CodeQuota, detail)
}

func unavailable(detail string) error { return newUnavailable(detail) }

func newUnavailable(detail string) *problem {
	return newProblem(http.StatusServiceUnavailable, keyapi.CodeUnavailable, detail)
}

func rateLimited(wait time.Duration) error { return newRateLimited(wait) }

func newRateLimited(wait time.Duration) *problem {
	p := newProblem(http.StatusTooManyRequests, keyapi.CodeRateLimited, "too many requests")
	p.retryAfter = max(wait, time.Second)
	return p
}

// codeOf is the code of errors that huma or the router make by themselves.
func codeOf(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return keyapi.CodeUnauthorized
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable:
		return keyapi.CodeNoRoute
	case http.StatusRequestEntityTooLarge:
		return keyapi.CodeTooLarge
	case http.StatusServiceUnavailable:
		return keyapi.CodeUnavailable
	}
	if status < 500 {
		return keyapi.CodeInvalid
	}
	return keyapi.CodeInternal
}

// statusOf folds the statuses that huma uses for bad requests into one.
func statusOf(status int) int {
	switch status {
	case http.StatusUnprocessableEntity, http.StatusUnsupportedMediaType, http.StatusRequestTimeout:
		return http.StatusBadRequest
	}
	return status
}

// toProblem is a huma.Transformer: errors of huma's own become problems of
// ours. Their values are dropped, for they quote the request, secrets included.
func toProblem(_ huma.Context, _ string, v any) (any, error) {
	switch e := v.(type) {
	case *problem:
		return e.Problem, nil
	case *huma.ErrorModel:
		status := statusOf(e.Status)
		detail := ""
		if status < 500 {
			detail = e.Detail
			if len(e.Errors) > 0 {
				detail += ": " + e.Errors[0].Location + ": " + e.Errors[0].Message
			}
		}
		return newProblem(status, codeOf(status), detail).Problem, nil
	}
	return v, nil
}

type humaContext = huma.Context // its method Context would clash with a field of that name

// foldStatus gives the response the status that toProblem writes into it.
type foldStatus struct{ humaContext }

// SetStatus writes the header.
func (c foldStatus) SetStatus(status int) { c.humaContext.SetStatus(statusOf(status)) }

// SetHeader writes a header. Errors are JSON, whatever was asked for, and huma's
// short names of formats are no media types.
func (c foldStatus) SetHeader(name, value string) {
	if name == "Content-Type" {
		switch value {
		case "application/problem+cbor":
			value = "application/problem+json"
		case "json", "cbor":
			value = "application/json"
		}
	}
	c.humaContext.SetHeader(name, value)
}

// Unwrap gives huma the context below.
func (c foldStatus) Unwrap() huma.Context { return c.humaContext }

// asProblem is the last stop of every error of a handler: problems pass, all
// else becomes "internal" and is logged under an id that the client can quote.
func (s *Server) asProblem(route string, err error) error {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	if errors.Is(err, context.Canceled) {
		return unavailable("the client is gone")
	}
	if errors.Is(err, ErrUnavailable) {
		s.log.Error("store is unavailable", "route", route, "error", err)
		return unavailable("the store cannot be asked now")
	}
	id := s.newLogID()
	s.log.Error("request failed", "route", route, "id", id, "error", err)
	return newProblem(http.StatusInternalServerError, keyapi.CodeInternal, "see the server's log under "+id)
}
