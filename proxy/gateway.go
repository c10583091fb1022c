package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/smtpd"
)

// Options of a Gateway.
type Options struct {
	// Accounts; at least one.
	Accounts []AccountConfig
	// Dir is where ciphertexts wait that still have to be sent. It is created
	// with mode 0700; one gateway at a time may use it. Required.
	Dir string
	// StatusToken, 32 hexadecimal digits, is the installation's secret in the
	// status field; it must stay the same for the life of the installation,
	// since mail clients store what was shown. Required.
	StatusToken string
	// TLSConfig holds the certificate of the local listeners. nil means plain
	// listeners, which are refused outside the loopback addresses.
	TLSConfig *tls.Config
	// MaxMessageBytes is the largest submission; 0 means smtpd's default.
	MaxMessageBytes int64
	// Logger gets no addresses above debug level, and never any text of a
	// message; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Listeners are where mail clients connect. A nil one is not served. Run
// closes them.
type Listeners struct {
	IMAP, SMTP net.Listener
}

// Gateway stands between mail clients and mail providers. Make one with New.
type Gateway struct {
	o        Options
	accounts map[string]*account // by canonical address
	outbox   *smtpd.Outbox
	imap     *imapd.Server
	smtp     *smtpd.Server
}

// New checks the options and opens the outbox; nothing runs yet. Run must be
// called to free what New has opened.
func New(o Options) (*Gateway, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case len(o.Accounts) == 0:
		return nil, errors.New("gateway: Accounts is empty")
	case o.Dir == "":
		return nil, errors.New("gateway: Dir is empty")
	case !isToken(o.StatusToken):
		return nil, errors.New("gateway: StatusToken must be 32 hexadecimal digits")
	}
	g := &Gateway{o: o, accounts: make(map[string]*account)}
	spoolDir, err := g.makeDirs()
	if err != nil {
		return nil, err
	}
	for i, cfg := range o.Accounts {
		a, err := newAccount(cfg, o)
		if err != nil {
			return nil, fmt.Errorf("gateway: account %d: %w", i+1, err)
		}
		if g.accounts[a.self.ID] != nil {
			return nil, fmt.Errorf("gateway: account %d is there twice", i+1)
		}
		a.spoolDir = spoolDir
		g.accounts[a.self.ID] = a
	}
	if err := g.makeServers(spoolDir); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// makeDirs creates the folders, and drops ciphertexts that a crash left
// unsent: what was promised to be sent is in the outbox.
func (g *Gateway) makeDirs() (spoolDir string, err error) {
	spoolDir = filepath.Join(g.o.Dir, "spool")
	if err := os.RemoveAll(spoolDir); err != nil {
		return "", fmt.Errorf("gateway: %w", err)
	}
	if err := os.MkdirAll(spoolDir, 0o700); err != nil {
		return "", fmt.Errorf("gateway: %w", err)
	}
	return spoolDir, nil
}

func (g *Gateway) makeServers(spoolDir string) (err error) {
	g.imap, err = imapd.New(imapd.Options{
		Backend: imapBackend{g}, TLSConfig: g.o.TLSConfig, Logger: g.o.Logger, SpoolDir: spoolDir,
	})
	if err != nil {
		return err
	}
	g.outbox, err = smtpd.OpenOutbox(smtpd.OutboxOptions{
		Dir: filepath.Join(g.o.Dir, "outbox"), Account: g.outboxAccount, Bounce: g.bounce, Logger: g.o.Logger,
	})
	if err != nil {
		return err
	}
	g.smtp, err = smtpd.New(smtpd.Options{
		Backend: smtpBackend{g}, Outbox: g.outbox, TLSConfig: g.o.TLSConfig,
		MaxMessageBytes: g.o.MaxMessageBytes, OversizePlain: true, SpoolDir: spoolDir, Logger: g.o.Logger,
	})
	if err != nil {
		return errors.Join(err, g.outbox.Close())
	}
	return nil
}

func isToken(s string) bool {
	if len(s) != 32 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// stopTimeout is how long connections may finish what they are doing when the
// gateway stops.
const stopTimeout = 10 * time.Second

// Run serves until ctx ends or a listener fails, and returns when everything
// it started has ended: connections, one sync loop per account, the outbox. It
// returns nil if ctx ended it. A Gateway runs once.
func (g *Gateway) Run(ctx context.Context, l Listeners) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	failures := make(chan error, 3)
	start := func(what string, run func() error) {
		wg.Go(func() {
			if err := run(); err != nil && ctx.Err() == nil {
				failures <- fmt.Errorf("%s: %w", what, err)
				cancel()
			}
		})
	}
	if l.IMAP != nil {
		start("serve IMAP", func() error { return g.imap.Serve(l.IMAP) })
	}
	if l.SMTP != nil {
		start("serve SMTP", func() error { return g.smtp.Serve(l.SMTP) })
	}
	start("outbox", func() error { return g.outbox.Run(ctx) })
	for _, a := range g.accounts {
		wg.Go(func() { a.syncing.run(ctx) })
	}
	<-ctx.Done()

	stop, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer done()
	var stopping sync.WaitGroup
	stopping.Go(func() { g.warn("stop IMAP", g.imap.Shutdown(stop)) })
	stopping.Go(func() { g.warn("stop SMTP", g.smtp.Shutdown(stop)) })
	stopping.Wait()
	wg.Wait()
	err := g.outbox.Close()
	select {
	case failure := <-failures:
		return errors.Join(failure, err)
	default:
		return err
	}
}

func (g *Gateway) warn(what string, err error) {
	if err != nil {
		g.o.Logger.Warn(what, "err", err)
	}
}

// login finds the account of a user name and checks the password.
func (g *Gateway) login(username, password string) *account {
	a := g.lookUp(username)
	if a == nil || !a.cfg.CheckPassword(password) {
		return nil
	}
	return a
}

func (g *Gateway) lookUp(username string) *account {
	id, err := groupid.Canonical(username)
	if err != nil {
		return nil
	}
	return g.accounts[id]
}

type imapBackend struct{ g *Gateway }

func (b imapBackend) Login(_ context.Context, username, password string) (imapd.Account, error) {
	a := b.g.login(username, password)
	if a == nil {
		return nil, imapd.ErrCredentials
	}
	return imapAccount{a}, nil
}

type smtpBackend struct{ g *Gateway }

func (b smtpBackend) Login(_ context.Context, username, password string) (smtpd.Account, error) {
	a := b.g.login(username, password)
	if a == nil {
		return nil, smtpd.ErrCredentials
	}
	return smtpAccount{a}, nil
}

// outboxAccount gives the account whose message waits in the outbox.
func (g *Gateway) outboxAccount(_ context.Context, username string) (smtpd.Account, error) {
	a := g.lookUp(username)
	if a == nil {
		return nil, errors.New("account is not configured any more")
	}
	return smtpAccount{a}, nil
}
