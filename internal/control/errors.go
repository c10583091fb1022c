package control

import (
	"errors"
	"net/http"
)

// ErrNotRunning: nobody listens on the socket.
var ErrNotRunning = errors.New("no gateway is running")

// ErrRunning: a gateway listens on the socket already.
var ErrRunning = errors.New("a gateway is running already")

// Code says what kind of error an Error is. Codes are never renamed, only
// added.
type Code string

// Codes.
const (
	CodeInvalid     Code = "invalid"     // what was asked makes no sense
	CodeNotFound    Code = "not-found"   // no such account, conversation, contact or device
	CodeNotRunning  Code = "not-running" // it takes a running gateway
	CodeMismatch    Code = "mismatch"    // a comparison code or key is another one
	CodeDenied      Code = "denied"      // a wrong password
	CodeConflict    Code = "conflict"    // the present state does not allow it
	CodeUnavailable Code = "unavailable" // the key server could not be asked
	CodeConfig      Code = "config"      // the configuration is wrong
	CodeVersion     Code = "version"     // the two programs do not understand each other
	CodeInternal    Code = "internal"
)

var statuses = map[Code]int{
	CodeInvalid: http.StatusBadRequest, CodeNotFound: http.StatusNotFound, CodeNotRunning: http.StatusConflict,
	CodeMismatch: http.StatusConflict, CodeDenied: http.StatusForbidden, CodeConflict: http.StatusConflict,
	CodeUnavailable: http.StatusServiceUnavailable, CodeConfig: http.StatusUnprocessableEntity,
	CodeVersion: http.StatusNotFound, CodeInternal: http.StatusInternalServerError,
}

// Error is what a Service answers when it cannot do something. Message says
// what is wrong, Hint what to do; both are for people, Hint may be empty.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitzero"`
	// Err is the cause; it does not cross the socket.
	Err error `json:"-"`
}

// Error gives message and hint.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + " (" + e.Hint + ")"
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is matches errors of the same code: errors.Is(err, &Error{Code: CodeDenied}).
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.Message == "" && t.Hint == ""
}

// CodeOf gives the code of an error, CodeInternal where it has none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}

// asError makes any error one that crosses the socket.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Code: CodeInternal, Message: err.Error(), Err: err}
}
