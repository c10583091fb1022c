package provider

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Ways to protect a connection, as the configuration file spells them.
const (
	TLSImplicit = "implicit" // TLS from the first octet
	TLSStartTLS = "starttls"
	TLSNone     = "none" // only on a loopback address
)

// Server is one server of a provider, with the way to sign in.
type Server struct {
	Host     string
	Port     int
	TLS      string // TLSImplicit, TLSStartTLS or TLSNone
	Username string
	// PasswordAuth and OAuth2 say what the source promises; only a check tells.
	PasswordAuth bool
	OAuth2       bool
}

// IsZero reports whether the server is unknown.
func (s Server) IsZero() bool { return s.Host == "" }

// Addr returns host:port.
func (s Server) Addr() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// Settings are the servers of a provider.
type Settings struct {
	IMAP, SMTP Server
	// Source says where this came from, for people.
	Source string
	// Confirm says why the person has to agree before a password is sent to
	// these servers; empty if that is not needed.
	Confirm []string
	// Notes tell what else the person has to know or do.
	Notes []string
}

func (s *Settings) complete() bool { return !s.IMAP.IsZero() && !s.SMTP.IsZero() }

// UnsupportedError says that a provider cannot be used with a mail program, or
// not directly.
type UnsupportedError struct {
	Provider string
	Reason   string // with what to do instead
}

// Error implements error.
func (e *UnsupportedError) Error() string { return e.Provider + ": " + e.Reason }

// Attempt is a look-up that did not succeed.
type Attempt struct {
	Source string
	Err    error
}

// NotFoundError says that the servers could not be found.
type NotFoundError struct {
	Domain string
	Tried  []Attempt
	// Partial is the best incomplete answer, or nil.
	Partial *Settings
}

// Error implements error, one line for each look-up.
func (e *NotFoundError) Error() string {
	var b strings.Builder
	missing := "IMAP and SMTP server"
	if e.Partial != nil {
		missing = "SMTP server"
		if e.Partial.IMAP.IsZero() {
			missing = "IMAP server"
		}
	}
	fmt.Fprintf(&b, "no mail servers were found for %s; the %s must be named by hand (the provider's help pages say them)", e.Domain, missing)
	for _, a := range e.Tried {
		fmt.Fprintf(&b, "\n  %s: %v", a.Source, a.Err)
	}
	return b.String()
}

// Unwrap returns the causes.
func (e *NotFoundError) Unwrap() []error {
	var errs []error
	for _, a := range e.Tried {
		errs = append(errs, a.Err)
	}
	return errs
}
