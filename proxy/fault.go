package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/smtpd"
)

// FaultKind says what has to be done about a Fault. Kinds are never renamed,
// only added: programs read them.
type FaultKind string

// Kinds of faults.
const (
	FaultUnreachable FaultKind = "unreachable"      // no connection, or no answer in time
	FaultName        FaultKind = "name-unknown"     // the server's name does not resolve
	FaultCertificate FaultKind = "certificate"      // TLS failed
	FaultLogin       FaultKind = "login-refused"    // the provider does not take user name and password
	FaultNotNow      FaultKind = "sign-in-later"    // the provider takes no sign-in for now, or no further one
	FaultNoPassword  FaultKind = "password-missing" // the provider's password cannot be read here
	FaultLost        FaultKind = "connection-lost"  // it broke in the middle
	FaultRefused     FaultKind = "refused"          // the server said no, in its own words
	FaultProtocol    FaultKind = "protocol"         // what it said makes no sense
	FaultDisk        FaultKind = "disk"             // this machine's disk is full or fails
	FaultSignedOut   FaultKind = "signed-out"       // the session at the key server ended
	FaultRollback    FaultKind = "rollback"         // the key server shows an older state than before
	FaultSignIn      FaultKind = "sign-in-changed"  // the key server changed what was pinned at the first sign-in
	FaultAccount     FaultKind = "account-missing"  // the address was not added to the user
	FaultBusy        FaultKind = "busy"             // others were faster; it is tried again
)

// Fault is one failure. Text is one line for people: it may hold a server's
// own words, and never a secret.
type Fault struct {
	Kind FaultKind
	Text string
	Time time.Time
}

// linkKind classifies a failed connection; "" where it is none.
func linkKind(err error) FaultKind {
	var dns *net.DNSError
	var op *net.OpError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var netErr net.Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return FaultDisk
	case errors.As(err, &dns):
		return FaultName
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid), errors.As(err, &verify),
		errors.As(err, &alert), errors.As(err, &record):
		return FaultCertificate
	case errors.As(err, &op) && op.Op == "dial", errors.Is(err, context.DeadlineExceeded):
		return FaultUnreachable
	case errors.As(err, &netErr) && netErr.Timeout():
		return FaultUnreachable
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.As(err, &op):
		return FaultLost
	}
	return ""
}

// imapFault describes a failure of the provider's IMAP server.
func imapFault(err error, now time.Time) *Fault {
	f := &Fault{Kind: linkKind(err), Text: imapd.ProviderText(err), Time: now}
	switch {
	case errors.Is(err, imapd.ErrLogin):
		f.Kind = FaultLogin
	case errors.Is(err, imapd.ErrNotNow):
		f.Kind = FaultNotNow
	case errors.Is(err, imapd.ErrNoPassword):
		f.Kind = FaultNoPassword
	case f.Kind == "":
		f.Kind = FaultRefused
	}
	return f
}

// smtpFault describes a failure of the provider's submission server.
func smtpFault(err error, now time.Time) *Fault {
	f := &Fault{Kind: linkKind(err), Text: oneLine(smtpd.ProviderText(err)), Time: now}
	switch {
	case errors.Is(err, smtpd.ErrLogin):
		f.Kind = FaultLogin
	case errors.Is(err, smtpd.ErrNotNow):
		f.Kind = FaultNotNow
	case errors.Is(err, smtpd.ErrNoPassword):
		f.Kind = FaultNoPassword
	case f.Kind == "":
		f.Kind = FaultRefused
	}
	return f
}

// keyServerFault describes a failed Sync.
func keyServerFault(err error, now time.Time) *Fault {
	f := &Fault{Kind: linkKind(err), Time: now}
	var rollback *cloudmls.RollbackError
	switch {
	case errors.As(err, &rollback):
		f.Kind, f.Text = FaultRollback, "the key server shows an older state than this device has seen; nothing is sent until that is cleared up"
	case errors.Is(err, cloudmls.ErrSignInChanged):
		f.Kind, f.Text = FaultSignIn, "the key server changed what this device pinned when it signed in first"
	case errors.Is(err, cloudmls.ErrSignedOut), errors.Is(err, cloudmls.ErrClosed):
		f.Kind, f.Text = FaultSignedOut, "this device is signed out of the key server"
	case errors.Is(err, cloudmls.ErrNoAccount):
		f.Kind, f.Text = FaultAccount, sentence(err)
	case errors.Is(err, cloudmls.ErrBusy):
		f.Kind, f.Text = FaultBusy, sentence(err)
	case f.Kind == FaultDisk:
		f.Text = "the disk of this machine is full"
	case f.Kind == FaultName:
		f.Text = "the key server's name could not be resolved"
	case f.Kind == FaultCertificate:
		f.Text = "the key server's certificate is not valid"
	case f.Kind == FaultUnreachable:
		f.Text = "the key server could not be reached"
	case f.Kind == FaultLost:
		f.Text = "the connection to the key server broke"
	default:
		f.Kind, f.Text = FaultProtocol, "the key server did not answer properly"
	}
	return f
}

// oneLine makes a text of several lines one of a bounded length.
func oneLine(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c < ' ' || c == 0x7f {
			b[i] = ' '
		}
	}
	const limit = 500
	if len(b) > limit {
		b = append(b[:limit], "..."...)
	}
	return string(b)
}
