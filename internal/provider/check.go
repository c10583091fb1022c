package provider

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/internal/secret"
)

// CheckOptions configures [CheckIMAP] and [CheckSMTP].
type CheckOptions struct {
	// TLSConfig is nil for the system's roots. Its ServerName is replaced by
	// the server's host unless set.
	TLSConfig *tls.Config
	// Timeout bounds one check; 0 means 30 s.
	Timeout time.Duration
	// Dialer is nil for the usual one.
	Dialer *net.Dialer
}

// IMAPFacts is what a check learnt.
type IMAPFacts struct {
	Capabilities []string // after signing in
}

// Has reports whether a capability was announced.
func (f *IMAPFacts) Has(name string) bool { return hasFold(f.Capabilities, name) }

// SMTPFacts is what a check learnt.
type SMTPFacts struct {
	// Size is the largest message in octets; 0 if the server names none.
	Size int64
	// Extensions are the keywords of EHLO that matter here and were announced.
	Extensions []string
	// Auth are the mechanisms that were announced.
	Auth []string
}

// Report is what [Check] learnt.
type Report struct {
	IMAP *IMAPFacts // nil if that check failed
	SMTP *SMTPFacts
}

// Check signs in at both servers, at once, and leaves again. The errors are
// *[CheckError]s, joined, or the error of ctx.
func Check(ctx context.Context, s *Settings, imapPassword, smtpPassword secret.Secret, o CheckOptions) (*Report, error) {
	r := &Report{}
	done := make(chan error, 1)
	go func() {
		var err error
		r.SMTP, err = CheckSMTP(ctx, s.SMTP, smtpPassword, o)
		done <- err
	}()
	var err error
	r.IMAP, err = CheckIMAP(ctx, s.IMAP, imapPassword, o)
	return r, errors.Join(err, <-done)
}

// CheckIMAP signs in as the gateway does later and leaves again.
func CheckIMAP(ctx context.Context, s Server, password secret.Secret, o CheckOptions) (*IMAPFacts, error) {
	fail := failure{protocol: "IMAP", addr: s.Addr()}
	conn, cancel, err := o.connect(&ctx, s, password, fail)
	defer cancel()
	if err != nil {
		return nil, err
	}
	p, err := imapd.Probe(ctx, conn, imapd.Upstream{
		StartTLS: s.TLS == TLSStartTLS, ServerName: s.Host, TLSConfig: o.tls(s), Username: s.Username,
		Password: func(context.Context) (string, error) { return password.RevealString(), nil },
	}, imapd.Limits{})
	if err == nil {
		return &IMAPFacts{Capabilities: p.After}, nil
	}
	var e *imapd.ProbeError
	if !errors.As(err, &e) {
		return nil, fail.link(err)
	}
	said := printable(e.Said)
	switch {
	case e.Step == imapd.StepTLS || e.Step == imapd.StepConnection || isLink(err):
		return nil, fail.link(err)
	case e.Step == imapd.StepStartTLS:
		return nil, fail.with(ProblemNoStartTLS, said, err)
	case e.Step == imapd.StepNoPassword:
		if hasFold(e.Caps, "AUTH=XOAUTH2") || hasFold(e.Caps, "AUTH=OAUTHBEARER") {
			return nil, fail.with(ProblemOAuth2, said, err)
		}
		return nil, fail.with(ProblemNoAuth, said, err)
	case e.Step == imapd.StepCredentials:
		if upper := strings.ToUpper(said); strings.HasPrefix(upper, "[UNAVAILABLE]") || strings.HasPrefix(upper, "[INUSE]") || strings.HasPrefix(upper, "[LIMIT]") {
			return nil, fail.with(ProblemTemporary, said, err)
		}
		return nil, fail.with(refusal(said), said, err)
	}
	return nil, fail.with(ProblemProtocol, said, err)
}

// failure makes the errors of one check.
type failure struct{ protocol, addr string }

func (f failure) with(p Problem, said string, err error) *CheckError {
	return &CheckError{Protocol: f.protocol, Addr: f.addr, Problem: p, Said: said, Err: err}
}

func (f failure) link(err error) *CheckError { return f.with(linkProblem(err), "", err) }

// isLink reports whether an error is one of the connection, not of what was
// said on it.
func isLink(err error) bool {
	var n net.Error
	return errors.As(err, &n) || errors.Is(err, context.DeadlineExceeded) || linkProblem(err) != ProblemUnreachable
}

// tls returns the configuration for a server.
func (o CheckOptions) tls(s Server) *tls.Config {
	c := &tls.Config{}
	if o.TLSConfig != nil {
		c = o.TLSConfig.Clone()
	}
	if c.ServerName == "" {
		c.ServerName = s.Host
	}
	c.MinVersion = max(c.MinVersion, tls.VersionTLS12)
	return c
}

// connect checks the settings, bounds the time and dials, with TLS where that
// comes first. Cancel is never nil.
func (o CheckOptions) connect(ctx *context.Context, s Server, password secret.Secret, fail failure) (net.Conn, context.CancelFunc, error) {
	timeout := o.Timeout
	if timeout <= 0 {
		timeout = 30 * time.Second
	}
	var cancel context.CancelFunc
	*ctx, cancel = context.WithTimeout(*ctx, timeout)
	if err := s.usable(password); err != nil {
		return nil, cancel, fail.with(ProblemSettings, "", err)
	}
	dialer := o.Dialer
	if dialer == nil {
		dialer = &net.Dialer{}
	}
	conn, err := dialer.DialContext(*ctx, "tcp", s.Addr())
	if err != nil {
		return nil, cancel, fail.link(err)
	}
	if s.TLS == TLSNone {
		// A name can lead anywhere, so the address counts.
		if !onThisMachine(conn.RemoteAddr()) {
			return nil, cancel, fail.with(ProblemSettings, "", errors.Join(errors.New("without TLS it must be on this machine"), conn.Close()))
		}
	}
	if s.TLS != TLSImplicit {
		return conn, cancel, nil
	}
	secure := tls.Client(conn, o.tls(s))
	if err := secure.HandshakeContext(*ctx); err != nil {
		return nil, cancel, errors.Join(fail.link(err), ignoreClosed(conn.Close()))
	}
	return secure, cancel, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// usable refuses what must not even be tried.
func (s Server) usable(password secret.Secret) error {
	switch {
	case s.Host == "" || s.Port < 1 || s.Port > 65535:
		return errors.New("host or port is missing")
	case s.TLS != TLSImplicit && s.TLS != TLSStartTLS && s.TLS != TLSNone:
		return fmt.Errorf("%.20q is not a way of TLS: it is one of implicit, starttls, none", s.TLS)
	case s.TLS == TLSNone && !isLoopback(s.Host):
		return errors.New("without TLS it must be on this machine")
	case s.Username == "":
		return errors.New("the user name is missing")
	case password.IsZero():
		return errors.New("the password is missing")
	case strings.ContainsAny(s.Username+password.RevealString(), "\r\n\x00"):
		return errors.New("user name or password holds a line end")
	}
	return nil
}

func hasFold(list []string, name string) bool {
	for _, have := range list {
		if strings.EqualFold(have, name) {
			return true
		}
	}
	return false
}

func onThisMachine(addr net.Addr) bool {
	a, ok := addr.(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}
