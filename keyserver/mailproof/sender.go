// Package mailproof sends a key server's challenges by mail, through a relay of
// its operator (package keyserver: Challenger). The form of the mail is that of
// internal/mailproof.
package mailproof

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/cloudmls/gateway/internal/mailproof"
	"github.com/cloudmls/gateway/keyserver"
)

// How the connection to the relay is secured.
const (
	TLSImplicit = "implicit"
	TLSStartTLS = "starttls"
	TLSNone     = "none" // for a relay on this machine
)

// Options of New. Relay and From are required.
type Options struct {
	Relay string // host:port
	TLS   string // nothing: TLSStartTLS
	Roots *x509.CertPool
	// Username and Password for the relay; none: it knows this machine.
	Username, Password string
	From               string // address of the sender, of the domain that signs
	// DKIM signs here. Nil: the relay does.
	DKIM *DKIM
	Now  func() time.Time
}

// DKIM is a key whose public part is in DNS at Selector._domainkey.Domain.
type DKIM struct {
	Domain, Selector string
	Key              crypto.Signer // Ed25519 or RSA
}

// Sender carries challenges. It is safe for concurrent use.
type Sender struct{ o Options }

var _ keyserver.Challenger = (*Sender)(nil)

// New checks the options; it does not connect.
func New(o Options) (*Sender, error) {
	host, _, err := net.SplitHostPort(o.Relay)
	switch {
	case err != nil:
		return nil, fmt.Errorf("mail relay: %w", err)
	case o.TLS == "":
		o.TLS = TLSStartTLS
	}
	if o.TLS == TLSNone && !loopback(host) {
		return nil, errors.New("mail relay: without TLS it must be on this machine")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Sender{o}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// signedFields are covered by the signature; those that count are named once
// more than they occur, so that none can be added (RFC 6376 section 8.15).
var signedFields = []string{
	"From", "From", "To", "To", "Subject", "Subject", "Date", "Date", "Message-ID", "Auto-Submitted",
	mailproof.Field, mailproof.Field, "MIME-Version", "Content-Type", "Content-Type",
}

// SendToken implements keyserver.Challenger. It returns when the relay has
// taken the message over.
func (s *Sender) SendToken(ctx context.Context, m keyserver.ChallengeMessage) error {
	message, err := mailproof.Compose(&mailproof.Challenge{
		Origin: m.Origin, Address: m.Account.ID, ID: m.ID[:], Token: m.Token1, Code: m.Code, Expires: m.Expires,
	}, s.o.From, s.o.Now())
	if err != nil {
		return err
	}
	if d := s.o.DKIM; d != nil {
		var signed bytes.Buffer
		err := dkim.Sign(&signed, bytes.NewReader(message), &dkim.SignOptions{
			Domain: d.Domain, Selector: d.Selector, Signer: d.Key, HeaderKeys: signedFields,
			HeaderCanonicalization: dkim.CanonicalizationRelaxed, BodyCanonicalization: dkim.CanonicalizationRelaxed,
			Expiration: m.Expires.Add(15 * time.Minute),
		})
		if err != nil {
			return fmt.Errorf("sign a challenge: %w", err)
		}
		message = signed.Bytes()
	}
	return s.hand(ctx, m.Account.ID, message)
}

// hand gives a message to the relay.
func (s *Sender) hand(ctx context.Context, to string, message []byte) error {
	c, err := s.connect(ctx)
	if err != nil {
		return fmt.Errorf("mail relay: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // ends what hangs
	defer func() {
		stop()
		_ = c.Close() // the relay has answered, or is gone already
	}()
	if s.o.Username != "" {
		if err := c.Auth(sasl.NewPlainClient("", s.o.Username, s.o.Password)); err != nil {
			return fmt.Errorf("mail relay: login: %w", err)
		}
	}
	// From is the return path as well: relays refuse an empty one behind a login.
	if err := c.SendMail(s.o.From, []string{to}, bytes.NewReader(message)); err != nil {
		return fmt.Errorf("mail relay: %w", err)
	}
	return nil
}

func (s *Sender) connect(ctx context.Context) (*smtp.Client, error) {
	host, _, _ := net.SplitHostPort(s.o.Relay) // checked by New
	conf := &tls.Config{ServerName: host, RootCAs: s.o.Roots, MinVersion: tls.VersionTLS12}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.o.Relay)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // the client has timeouts of its own, longer ones
	defer stop()
	switch s.o.TLS {
	case TLSImplicit:
		return smtp.NewClient(tls.Client(conn, conf)), nil
	case TLSStartTLS:
		c, err := smtp.NewClientStartTLS(conn, conf)
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return c, nil
	}
	return smtp.NewClient(conn), nil
}
