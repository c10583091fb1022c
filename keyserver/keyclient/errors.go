package keyclient

import (
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// ErrUnavailable is matched by every error that is not the key server's own
// statement: *TransportError and *ResponseError. Nothing may be concluded from
// it, least of all that something does not exist.
var ErrUnavailable = errors.New("key server unavailable")

// TransportError: no complete answer came back. A request that changes
// something may or may not have been carried out.
type TransportError struct {
	Op  string // "POST /v1/tx"
	Err error
}

func (e *TransportError) Error() string { return fmt.Sprintf("key server: %s: %v", e.Op, e.Err) }

// Unwrap gives the cause, a context's error included.
func (e *TransportError) Unwrap() error { return e.Err }

// Is makes the error match ErrUnavailable.
func (e *TransportError) Is(target error) bool { return target == ErrUnavailable }

// ResponseError: an answer came that a key server does not give.
type ResponseError struct {
	Op     string
	Status int
	Reason string
}

func (e *ResponseError) Error() string {
	return fmt.Sprintf("key server: %s: answer %d not understood: %s", e.Op, e.Status, e.Reason)
}

// Is makes the error match ErrUnavailable.
func (e *ResponseError) Is(target error) bool { return target == ErrUnavailable }

// IsCode tells whether err is the key server's own problem with this code.
func IsCode(err error, code string) bool {
	var p *keyapi.Problem
	return errors.As(err, &p) && p.Code == code
}

// statusOf is the only status that goes with each code. A document whose status
// does not fit is not taken for a key server's word.
var statusOf = map[string][]int{
	keyapi.CodeInvalid:              {400},
	keyapi.CodeClock:                {400},
	keyapi.CodeUnauthorized:         {401},
	keyapi.CodeForbidden:            {403},
	keyapi.CodeVerificationRequired: {403},
	keyapi.CodeNotFound:             {404},
	keyapi.CodeNoAccount:            {404},
	keyapi.CodeNoKeyPackage:         {404},
	keyapi.CodeNoRoute:              {404, 405, 406},
	keyapi.CodeTaken:                {409},
	keyapi.CodeConflict:             {409},
	keyapi.CodeEpochConflict:        {409},
	keyapi.CodeInstanceConflict:     {409},
	keyapi.CodeKeyReused:            {409},
	keyapi.CodeMoved:                {409},
	keyapi.CodeTooLarge:             {413},
	keyapi.CodeRateLimited:          {429},
	keyapi.CodeInternal:             {500},
	keyapi.CodeUnavailable:          {503},
	keyapi.CodeQuota:                {507},
}
