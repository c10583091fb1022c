package imapd

import (
	"context"
	"net"

	"github.com/cloudmls/gateway/imapd/session"
)

// A trial sign-in at a provider, for set-up, see package session.
type (
	// Probed is what a trial learnt.
	Probed = session.Probed
	// ProbeError says at which step a trial failed.
	ProbeError = session.ProbeError
	// ProbeStep is a step of a trial.
	ProbeStep = session.ProbeStep
)

// The steps of a trial, in their order.
const (
	StepGreeting    = session.StepGreeting
	StepStartTLS    = session.StepStartTLS
	StepTLS         = session.StepTLS
	StepNoPassword  = session.StepNoPassword
	StepCredentials = session.StepCredentials
	StepCapability  = session.StepCapability
	StepConnection  = session.StepConnection
)

// Probe signs in at a provider as a session does and leaves again. The
// connection is encrypted already unless u.StartTLS is set or it is on
// loopback; it is closed. Errors are *ProbeError, or ctx's.
func Probe(ctx context.Context, conn net.Conn, u Upstream, l Limits) (*Probed, error) {
	return session.Probe(ctx, conn, u, l.WithDefaults())
}
