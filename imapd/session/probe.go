package session

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// ProbeStep is where signing in at a provider for a trial ended.
type ProbeStep string

// The steps of a trial, in their order.
const (
	StepGreeting    ProbeStep = "greeting"     // the server is no IMAP server, or sends us away
	StepStartTLS    ProbeStep = "starttls"     // STARTTLS is not offered or was refused
	StepTLS         ProbeStep = "tls"          // the handshake of STARTTLS failed
	StepNoPassword  ProbeStep = "no password"  // no way to sign in with a password is offered
	StepCredentials ProbeStep = "credentials"  // the sign-in was refused
	StepCapability  ProbeStep = "capabilities" // they could not be learnt
	StepConnection  ProbeStep = "connection"   // it broke, or nothing came in time
)

// Probed is what a trial learnt.
type Probed struct {
	// Before and After are the capabilities before and after signing in; Before
	// is empty where the server did not have to tell.
	Before, After []string
}

// ProbeError says why a trial failed.
type ProbeError struct {
	Step ProbeStep
	Said string   // the server's words, one line; may be empty
	Caps []string // what the server offered until then
	Err  error
}

// Error implements error.
func (e *ProbeError) Error() string { return fmt.Sprintf("%s: %v", e.Step, e.Err) }

// Unwrap returns the cause.
func (e *ProbeError) Unwrap() error { return e.Err }

// Probe signs in at a provider exactly as a session does, on a connection that
// it closes, and leaves again. Errors are *ProbeError, or ctx's.
func Probe(ctx context.Context, conn net.Conn, target Upstream, l Limits) (*Probed, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	defer conn.Close()
	h := &handshake{up: newUpstream(conn, l.Progress), target: target}
	p, err := h.probe(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
		return nil, err
	}
	// Whether the goodbye arrives changes nothing.
	_ = h.write(tagPrefix + " LOGOUT\r\n")
	return p, nil
}

func (h *handshake) probe(ctx context.Context) (*Probed, error) {
	preauth, err := h.greeting()
	if err != nil {
		return nil, h.failed(StepGreeting, err)
	}
	if h.target.StartTLS {
		if err := h.probeStartTLS(ctx, preauth); err != nil {
			return nil, err
		}
	}
	p := &Probed{}
	if !preauth {
		if h.up.caps == nil {
			if err := h.capability(); err != nil {
				return nil, h.failed(StepCapability, err)
			}
		}
		p.Before = h.up.caps
		if !h.up.caps.has("AUTH=PLAIN") && h.up.caps.has("LOGINDISABLED") {
			return nil, h.failed(StepNoPassword, errors.New("neither AUTH=PLAIN nor LOGIN is offered"))
		}
		if err := h.login(ctx); err != nil {
			h.up.caps = p.Before
			return nil, h.failed(StepCredentials, err)
		}
	}
	if h.up.caps == nil {
		if err := h.capability(); err != nil {
			return nil, h.failed(StepCapability, err)
		}
	}
	p.After = h.up.caps
	return p, nil
}

// probeStartTLS tells a server without STARTTLS from one whose certificate is
// wrong.
func (h *handshake) probeStartTLS(ctx context.Context, preauth bool) error {
	if preauth {
		return h.failed(StepStartTLS, errors.New("the server skips encryption (PREAUTH)"))
	}
	if h.up.caps == nil {
		if err := h.capability(); err != nil {
			return h.failed(StepCapability, err)
		}
	}
	if !h.up.caps.has("STARTTLS") {
		return h.failed(StepStartTLS, errors.New("the server does not offer it"))
	}
	if err := h.startTLS(ctx); err != nil {
		var refused *providerError
		if errors.As(err, &refused) {
			return h.failed(StepStartTLS, err)
		}
		return h.failed(StepTLS, err)
	}
	return nil
}

// failed makes a ProbeError with the server's words, which stand behind the
// colon of the sentence for the mail client.
func (h *handshake) failed(step ProbeStep, err error) *ProbeError {
	e := &ProbeError{Step: step, Caps: h.up.caps, Err: err}
	var p *providerError
	switch {
	case errors.As(err, &p):
		_, said, _ := strings.Cut(p.text, ": ")
		e.Said = oneLine(said)
	case step == StepGreeting || step == StepCapability || step == StepCredentials:
		// Not the server's word: a password was not refused because the
		// network failed.
		e.Step = StepConnection
	}
	return e
}
