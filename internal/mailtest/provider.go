package mailtest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2/imapserver"
	"github.com/emersion/go-smtp"
)

// Security says how the listeners of a provider are protected.
type Security uint8

const (
	// ImplicitTLS speaks TLS from the first octet, with a certificate of the
	// world's authority. The default.
	ImplicitTLS Security = iota
	// StartTLS offers STARTTLS and no login before it.
	StartTLS
	// Plain has no TLS.
	Plain
)

// User is a person with a mailbox at a provider.
type User struct {
	Address  string // also the login name
	Password string
}

// Options describes a provider.
type Options struct {
	// World is what the provider is part of; nil means a world of its own.
	World *World
	// Domain is the part after the @ of its users' addresses; empty means that
	// of the first user.
	Domain string
	// Users may not be empty.
	Users []User
	// Security of both listeners.
	Security Security
	// MaxMessageBytes is announced as SIZE; 0 means 35 MiB.
	MaxMessageBytes int64
	// NoSMTPUTF8 leaves that extension out.
	NoSMTPUTF8 bool
	// FilesSent makes the provider put a copy of each submission into Sent.
	FilesSent bool
	// Now is the clock for dates; nil means time.Now.
	Now func() time.Time
	// Logger may be nil.
	Logger *slog.Logger
}

// Provider is a running mail provider. It is safe for concurrent use.
type Provider struct {
	world           *World
	domain          string
	users           map[string]*user // by canonical address; fixed
	security        Security
	maxMessageBytes int64
	smtpUTF8        bool
	filesSent       bool
	now             func() time.Time
	log             *slog.Logger
	tls             *tls.Config // nil if plain
	authority       *Authority  // nil if plain
	faults          faults
	record          record
	done            chan struct{}

	mu       sync.Mutex
	closed   bool
	imapAddr string
	smtpAddr string
	run      *run // nil while down
}

// run is one life of the listeners, between Up and Down.
type run struct {
	imapServer *imapserver.Server
	smtpServer *smtp.Server
	listeners  []*faultListener
	wg         sync.WaitGroup
}

// NewProvider starts a provider on two loopback ports.
func NewProvider(o Options) (*Provider, error) {
	if len(o.Users) == 0 {
		return nil, errors.New("mailtest: a provider needs users")
	}
	p := &Provider{
		world: o.World, domain: o.Domain, users: make(map[string]*user),
		security: o.Security, maxMessageBytes: o.MaxMessageBytes, smtpUTF8: !o.NoSMTPUTF8,
		filesSent: o.FilesSent, now: o.Now, log: o.Logger, done: make(chan struct{}),
	}
	if p.world == nil {
		p.world = NewWorld()
	}
	if p.domain == "" {
		_, p.domain = splitAddress(o.Users[0].Address)
	}
	if p.maxMessageBytes == 0 {
		p.maxMessageBytes = 35 << 20
	}
	if p.now == nil {
		p.now = time.Now
	}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	for _, u := range o.Users {
		if err := p.addUser(u); err != nil {
			return nil, err
		}
	}
	if err := p.prepareTLS(); err != nil {
		return nil, err
	}
	if err := p.world.add(p); err != nil {
		return nil, err
	}
	if err := p.Up(); err != nil {
		p.world.remove(p)
		return nil, err
	}
	return p, nil
}

func (p *Provider) prepareTLS() error {
	if p.security == Plain {
		return nil
	}
	var err error
	if p.authority, err = p.world.Authority(); err != nil {
		return err
	}
	cert, err := p.authority.Issue()
	if err != nil {
		return err
	}
	p.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	return nil
}

// Up starts the listeners, on the same ports as before. It does nothing if
// they run.
func (p *Provider) Up() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.New("mailtest: the provider is closed")
	}
	if p.run != nil {
		return nil
	}
	imapLn, err := listen(p.imapAddr)
	if err != nil {
		return fmt.Errorf("mailtest: listen for imap: %w", err)
	}
	smtpLn, err := listen(p.smtpAddr)
	if err != nil {
		return errors.Join(fmt.Errorf("mailtest: listen for smtp: %w", err), imapLn.Close())
	}
	p.imapAddr, p.smtpAddr = imapLn.Addr().String(), smtpLn.Addr().String()
	imapFaults, smtpFaults := newFaultListener(imapLn, p, IMAPConnect), newFaultListener(smtpLn, p, SMTPConnect)
	r := &run{
		imapServer: p.newIMAP(), smtpServer: p.newSMTP(), listeners: []*faultListener{imapFaults, smtpFaults},
	}
	r.wg.Go(func() {
		if err := r.imapServer.Serve(p.wrapIMAP(imapFaults)); err != nil {
			p.log.Debug("imap listener ended", "err", err)
		}
	})
	r.wg.Go(func() {
		if err := r.smtpServer.Serve(p.wrapSMTP(smtpFaults)); err != nil {
			p.log.Debug("smtp listener ended", "err", err)
		}
	})
	p.run = r
	return nil
}

func listen(addr string) (net.Listener, error) {
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	return (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
}

// Down closes the listeners and all connections. What is stored stays.
func (p *Provider) Down() error {
	p.mu.Lock()
	r := p.run
	p.run = nil
	p.mu.Unlock()
	if r == nil {
		return nil
	}
	var errs []error
	for _, l := range r.listeners {
		errs = append(errs, l.end())
	}
	errs = append(errs, notClosed(r.imapServer.Close()), notClosed(r.smtpServer.Close()))
	r.wg.Wait()
	return errors.Join(errs...)
}

// Close takes the provider down for good and out of its world.
func (p *Provider) Close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.mu.Unlock()
	if first {
		close(p.done)
		p.world.remove(p)
	}
	return p.Down()
}

// Domain returns the domain of the provider's users.
func (p *Provider) Domain() string { return p.domain }

// IMAPAddr returns host:port of the IMAP listener; it stays the same.
func (p *Provider) IMAPAddr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.imapAddr
}

// SMTPAddr returns host:port of the submission listener; it stays the same.
func (p *Provider) SMTPAddr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.smtpAddr
}

// ClientTLS returns a configuration that trusts the provider's certificate, or
// nil for a plain provider.
func (p *Provider) ClientTLS() *tls.Config {
	if p.authority == nil {
		return nil
	}
	return &tls.Config{RootCAs: p.authority.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// AuthorityPEM returns the certificate that a configuration file would name as
// ca_file; nil for a plain provider.
func (p *Provider) AuthorityPEM() []byte {
	if p.authority == nil {
		return nil
	}
	return p.authority.PEM()
}

// TB is the part of testing.TB that NewT needs; it keeps package testing out
// of programs that use a provider for demonstration.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
	Cleanup(func())
}

// NewT starts a provider that ends with the test.
func NewT(tb TB, o Options) *Provider {
	tb.Helper()
	p, err := NewProvider(o)
	if err != nil {
		tb.Fatalf("start provider: %v", err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Errorf("close provider: %v", err)
		}
	})
	return p
}
