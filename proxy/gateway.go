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
	spoolDir string
	outbox   *smtpd.Outbox
	imap     *imapd.Server
	smtp     *smtpd.Server
	loops    sync.WaitGroup // one per account, of Run

	reloading sync.Mutex // one Reload at a time

	mu     sync.Mutex
	places map[string]*place // by canonical address
	// leaving are accounts that were removed: what entered the outbox while
	// they went is still delivered.
	leaving map[string]*place
	started time.Time
	reloads int
	running context.Context // of Run; nil before
	stopped bool
	ahead   errands
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
	g := &Gateway{o: o, places: make(map[string]*place), leaving: make(map[string]*place)}
	accounts, err := g.checkAccounts(o.Accounts)
	if err != nil {
		return nil, err
	}
	if g.spoolDir, err = g.makeDirs(); err != nil {
		return nil, err
	}
	for id, a := range accounts {
		g.places[id] = newPlace(a, g.spoolDir, &g.ahead)
	}
	if err := g.makeServers(g.spoolDir); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// checkAccounts gives the accounts by canonical address.
func (g *Gateway) checkAccounts(configs []AccountConfig) (map[string]*account, error) {
	accounts := make(map[string]*account, len(configs))
	for i, cfg := range configs {
		a, err := newAccount(cfg, g.o)
		if err != nil {
			return nil, fmt.Errorf("gateway: account %d: %w", i+1, err)
		}
		if accounts[a.self.ID] != nil {
			return nil, fmt.Errorf("gateway: account %d is there twice", i+1)
		}
		accounts[a.self.ID] = a
	}
	return accounts, nil
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
	start("maintain keys", func() error { return g.maintain(ctx) })
	g.startLoops(ctx)
	<-ctx.Done()

	stop, done := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer done()
	var stopping sync.WaitGroup
	stopping.Go(func() { g.warn("stop IMAP", g.imap.Shutdown(stop)) })
	stopping.Go(func() { g.warn("stop SMTP", g.smtp.Shutdown(stop)) })
	stopping.Wait()
	wg.Wait()
	g.ahead.stop()
	g.stopLoops()
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
func (g *Gateway) login(username, password string) *place {
	p := g.lookUp(username)
	if p == nil || !p.now.Load().cfg.CheckPassword(password) {
		return nil
	}
	return p
}

func (g *Gateway) lookUp(username string) *place {
	id, err := groupid.Canonical(username)
	if err != nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.places[id]
}

type imapBackend struct{ g *Gateway }

func (b imapBackend) Login(_ context.Context, username, password string) (imapd.Account, error) {
	p := b.g.login(username, password)
	if p == nil {
		return nil, imapd.ErrCredentials
	}
	return imapAccount{place: p, begun: p.now.Load()}, nil
}

type smtpBackend struct{ g *Gateway }

func (b smtpBackend) Login(_ context.Context, username, password string) (smtpd.Account, error) {
	p := b.g.login(username, password)
	if p == nil {
		return nil, smtpd.ErrCredentials
	}
	return smtpAccount{p}, nil
}

// outboxAccount gives the account whose message waits in the outbox.
func (g *Gateway) outboxAccount(_ context.Context, username string) (smtpd.Account, error) {
	p := g.senderOf(username)
	if p == nil {
		return nil, errNotConfigured
	}
	return smtpAccount{p}, nil
}

// errNotConfigured delays what waits in the outbox until the account is back.
var errNotConfigured = errors.New("account is not configured any more")

// senderOf is lookUp for what was accepted already.
func (g *Gateway) senderOf(username string) *place {
	id := canonicalOr(username)
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.places[id]; p != nil {
		return p
	}
	return g.leaving[id]
}
