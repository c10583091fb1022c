package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/cloudmls/gateway/imapd/overlay"
)

// errClosed is the error of commands that wait while the session ends.
var errClosed = errors.New("imap session closed")

// errGone says that the client left or that its connection failed.
var errGone = errors.New("mail client gone")

// providerError is a failure of the provider's connection, with the sentence
// that the client may read.
type providerError struct {
	text string
	err  error
}

func (e *providerError) Error() string {
	if e.err == nil {
		return e.text
	}
	return e.text + ": " + e.err.Error()
}

func (e *providerError) Unwrap() error { return e.err }

// refusal is the provider's NO or BAD to an internal command.
type refusal struct {
	command string
	text    string
}

func (e *refusal) Error() string { return "provider refused " + e.command + ": " + e.text }

// verbatim is a tagged NO or BAD of the provider for the client itself.
type verbatim struct{ line []byte }

func (e *verbatim) Error() string { return "provider answered: " + string(e.line) }

// answerFor translates an error into response code and sentence for a tagged
// NO. The cause itself goes to the log only.
func answerFor(err error) (code, text string) {
	var f *Failure
	var r *refusal
	var p *providerError
	switch {
	case errors.As(err, &f):
		return f.Code, oneLine(f.Text)
	case errors.Is(err, overlay.ErrUnsupported):
		return "CANNOT", "This FETCH item is not available for encrypted messages"
	case errors.Is(err, overlay.ErrCorrupt):
		return "UNAVAILABLE", "The stored content of this encrypted message is damaged"
	case errors.As(err, &p):
		return "UNAVAILABLE", oneLine(p.text)
	case errors.As(err, &r):
		return "UNAVAILABLE", oneLine("The mail provider refused a request: " + r.text)
	case errors.Is(err, context.DeadlineExceeded):
		return "UNAVAILABLE", "The gateway could not finish in time, please try again"
	}
	return "UNAVAILABLE", "The gateway could not do this now, please try again"
}

// plainCause describes an error for the log above debug level: what others
// said, and texts meant for the person, are left out.
func plainCause(err error) string {
	var f *Failure
	var r *refusal
	var p *providerError
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &f):
		return "failure " + f.Code
	case errors.As(err, &r):
		return "provider refused " + r.command
	case errors.As(err, &p):
		first, _, _ := strings.Cut(p.text, ":")
		return first
	}
	return err.Error()
}

// dialSentence explains why the provider could not be reached.
func dialSentence(err error) string {
	var p *providerError
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var op *net.OpError
	switch {
	case errors.As(err, &p):
		return p.text
	case errors.As(err, &dns):
		return "The mail provider's server name could not be resolved"
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid), errors.As(err, &verify):
		return "The mail provider's certificate is not valid"
	case errors.Is(err, context.DeadlineExceeded):
		return "The mail provider did not answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "The mail provider closed the connection"
	case errors.As(err, &op) && op.Op == "dial":
		return "The mail provider could not be reached"
	}
	return "The connection to the mail provider failed"
}
