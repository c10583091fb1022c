package provider

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Problem is what kind of thing is wrong with a server or a login.
type Problem string

// The kinds of problems.
const (
	ProblemSettings     Problem = "settings"          // the settings themselves; nothing was tried
	ProblemName         Problem = "name"              // the host name does not resolve
	ProblemRefused      Problem = "refused"           // nothing listens there
	ProblemUnreachable  Problem = "unreachable"       // no connection, or it broke
	ProblemTimeout      Problem = "timeout"           // no answer in time
	ProblemTLSName      Problem = "tls name"          // the certificate is for other names
	ProblemTLSAuthority Problem = "tls authority"     // the certificate's issuer is not trusted
	ProblemTLSExpired   Problem = "tls expired"       // the certificate's time is over or has not begun
	ProblemTLS          Problem = "tls"               // no TLS there, or another TLS error
	ProblemNoStartTLS   Problem = "no starttls"       // STARTTLS is not offered
	ProblemProtocol     Problem = "protocol"          // not a server of this protocol
	ProblemTemporary    Problem = "temporary"         // the server asks to come back later
	ProblemPassword     Problem = "password"          // user name or password refused
	ProblemAppPassword  Problem = "app password"      // an app password is wanted
	ProblemOAuth2       Problem = "oauth2"            // OAuth2 is the only way in
	ProblemNoAuth       Problem = "no authentication" // no password login is offered
)

// CheckError says why a check failed. Its text is for people.
type CheckError struct {
	Protocol string // IMAP or SMTP
	Addr     string // host:port
	Problem  Problem
	Said     string // the server's own words, made printable; may be empty
	Err      error
}

// Unwrap returns the cause.
func (e *CheckError) Unwrap() error { return e.Err }

// Error implements error: what is wrong, and what to do.
func (e *CheckError) Error() string {
	host, port, err := net.SplitHostPort(e.Addr)
	if err != nil {
		host = e.Addr
	}
	text := fmt.Sprintf("%s server %s: ", e.Protocol, e.Addr)
	switch e.Problem {
	case ProblemSettings:
		return text + e.Err.Error()
	case ProblemName:
		return text + fmt.Sprintf("the name %s does not exist in the DNS, or the network is down; check its spelling", host)
	case ProblemRefused:
		return text + fmt.Sprintf("nothing listens on port %s; check host and port", port)
	case ProblemTimeout:
		return text + "it did not answer in time; check host, port and the way of TLS (implicit or starttls), and whether a firewall is in between"
	case ProblemUnreachable:
		return text + fmt.Sprintf("the connection failed (%v); check the network", e.Err)
	case ProblemTLSName:
		return text + fmt.Sprintf("its certificate is not for %s%s; use the name that the provider documents, never go on", host, certificateNames(e.Err))
	case ProblemTLSAuthority:
		return text + "its certificate comes from an authority that this machine does not trust; if it is your own server, name the authority's certificate (--imap-ca and --smtp-ca of cloudmls setup, ca_file in the configuration), else somebody may be in between"
	case ProblemTLSExpired:
		return text + "its certificate is not valid today; check this machine's clock, or tell the provider"
	case ProblemTLS:
		return text + fmt.Sprintf("TLS failed (%v); the port may want the other way of TLS (implicit or starttls)", e.Err)
	case ProblemNoStartTLS:
		return text + "it does not offer STARTTLS, and nothing is sent without encryption; try implicit TLS (port 993 or 465)" + e.said()
	case ProblemProtocol:
		return text + fmt.Sprintf("what answers there is no %s server, or it sends us away%s; check host, port and TLS", e.Protocol, e.said())
	case ProblemTemporary:
		return text + "it asks to try again later" + e.said()
	case ProblemPassword:
		return text + "user name or password was refused" + e.said()
	case ProblemAppPassword:
		return text + "it wants an app password, made in the account's security settings at the provider, instead of the account's own" + e.said()
	case ProblemOAuth2:
		return text + "it takes OAuth2 only, no passwords; that comes with a later release" + e.said()
	case ProblemNoAuth:
		return text + "it offers no way to sign in with a password on this port; submission uses 465 or 587, reading 993 or 143" + e.said()
	}
	return text + fmt.Sprint(e.Err)
}

func (e *CheckError) said() string {
	if e.Said == "" {
		return ""
	}
	return fmt.Sprintf(" (it said: %s)", e.Said)
}

// certificateNames lists what a certificate is for.
func certificateNames(err error) string {
	var h x509.HostnameError
	if !errors.As(err, &h) || h.Certificate == nil || len(h.Certificate.DNSNames) == 0 {
		return ""
	}
	names := h.Certificate.DNSNames
	return " but for " + printable(strings.Join(names[:min(len(names), 5)], ", "))
}

// linkProblem tells the kind of an error of dialling, of TLS or of a
// connection.
func linkProblem(err error) Problem {
	var (
		dns     *net.DNSError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		verify  *tls.CertificateVerificationError
		record  tls.RecordHeaderError
		alert   tls.AlertError
		network net.Error
	)
	switch {
	case errors.As(err, &host):
		return ProblemTLSName
	case errors.As(err, &unknown):
		return ProblemTLSAuthority
	case errors.As(err, &invalid):
		if invalid.Reason == x509.Expired {
			return ProblemTLSExpired
		}
		return ProblemTLSAuthority
	case errors.As(err, &verify), errors.As(err, &record), errors.As(err, &alert):
		return ProblemTLS
	case errors.As(err, &dns) && !dns.IsTimeout:
		return ProblemName
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &network) && network.Timeout():
		return ProblemTimeout
	case errors.Is(err, syscall.ECONNREFUSED):
		return ProblemRefused
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ProblemUnreachable
	}
	return ProblemUnreachable
}

// refusal tells the kind of a refused sign-in by the server's words, which
// the large providers keep stable.
func refusal(said string) Problem {
	lower := strings.ToLower(said)
	for _, words := range []string{"application-specific password", "app password", "app-specific password", "application password"} {
		if strings.Contains(lower, words) {
			return ProblemAppPassword
		}
	}
	for _, words := range []string{"basic authentication is disabled", "basicauthblocked", "oauth"} {
		if strings.Contains(lower, words) {
			return ProblemOAuth2
		}
	}
	return ProblemPassword
}
