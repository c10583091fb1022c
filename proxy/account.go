package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
	"github.com/cloudmls/gateway/imapd"
	"github.com/cloudmls/gateway/smtpd"
)

// AccountConfig is one mail account of the gateway.
type AccountConfig struct {
	// Client is the user's; the account must have been added to it
	// (cloudmls.Client.AddAccount). Several accounts may share one. The caller
	// closes it after Run has returned. Required.
	Client *cloudmls.Client
	// Address is the account's mail address, and the user name of its mail
	// clients. Required.
	Address string
	// Aliases are further addresses of the same mailbox. They count as oneself;
	// encrypted mail is sent from Address only.
	Aliases []string
	// CheckPassword reports whether a mail client's password is right. It must
	// take the same time whether it is or not. Required.
	CheckPassword func(password string) bool
	// IMAP and SMTP are the servers of the mail provider. Required.
	IMAP IMAPUpstream
	SMTP smtpd.Upstream
	// Policy is how the account sends.
	Policy Policy
}

// IMAPUpstream is the IMAP server of a mail provider.
type IMAPUpstream struct {
	// Addr is host:port.
	Addr string
	// Mode is how the connection is protected. smtpd.TLSNone is refused unless
	// Addr is a loopback address.
	Mode smtpd.TLSMode
	// TLSConfig may be nil. ServerName is taken from Addr where it is empty.
	TLSConfig *tls.Config
	// Username and Password are the login at the provider. Password is called
	// once per connection.
	Username string
	Password func(ctx context.Context) (string, error)
}

// account is a checked AccountConfig at work. It never changes but in what it
// points to: a reload makes another one, see place. It is safe for concurrent
// use.
type account struct {
	cfg      AccountConfig
	client   *cloudmls.Client
	self     cloudmls.Account
	own      map[string]bool // canonical addresses of the account
	rules    *rules
	threads  *threads
	verdicts *verdicts
	index    *index
	syncing  *syncer
	waiting  *waiting
	health   *health
	// generation counts the settings that the address had.
	generation uint64
	token      string
	spoolDir   string
	log        *slog.Logger
	now        func() time.Time
}

func newAccount(cfg AccountConfig, o Options) (*account, error) {
	id, err := groupid.Canonical(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("address: %w", err)
	}
	switch {
	case cfg.Client == nil:
		return nil, errors.New("client is missing")
	case cfg.CheckPassword == nil:
		return nil, errors.New("password check is missing")
	case cfg.IMAP.Addr == "" || cfg.SMTP.Addr == "":
		return nil, errors.New("address of the provider's IMAP or SMTP server is missing")
	}
	if cfg.IMAP.Mode == smtpd.TLSNone && !loopback(cfg.IMAP.Addr) {
		return nil, errors.New("IMAP without TLS is allowed on loopback addresses only")
	}
	r, err := newRules(cfg.Policy)
	if err != nil {
		return nil, err
	}
	a := &account{
		cfg: cfg, client: cfg.Client, self: mailAccount(id), own: map[string]bool{id: true}, rules: r,
		token: o.StatusToken, log: o.Logger, now: o.Now,
		threads:  &threads{cache: cfg.Client.Cache("mail/threads/" + id)},
		verdicts: &verdicts{cache: cfg.Client.Cache("mail/verdicts/" + id)},
	}
	a.health = newHealth(o.Now, newJournal(cfg.Client, id))
	a.index = newIndex(func(mailbox string) *cloudmls.Cache { return cfg.Client.Cache("mail/index/" + id + "/" + mailbox) })
	a.index.renumbered = a.health.renumber
	a.syncing, a.waiting = &syncer{a}, newWaiting(func(ctx context.Context) ([][32]byte, error) { return cfg.Client.Retryable(ctx, a.self) })
	for _, alias := range cfg.Aliases {
		c, err := groupid.Canonical(alias)
		if err != nil {
			return nil, fmt.Errorf("alias: %w", err)
		}
		a.own[c] = true
	}
	return a, nil
}

// selfConversation is the conversation of the account with itself.
func (a *account) selfConversation() groupid.ID {
	return groupid.Self(cloudmls.PlatformEmail, a.self.ID)
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// dialTimeout bounds connecting to the provider, TLS included.
const dialTimeout = 30 * time.Second

// dialIMAP connects to the provider.
func (a *account) dialIMAP(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	up := a.cfg.IMAP
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", up.Addr)
	if err != nil {
		return nil, fmt.Errorf("connect to the provider: %w", err)
	}
	if up.Mode != smtpd.TLSImplicit {
		return conn, nil
	}
	t := tls.Client(imapd.NewBuffered(conn), imapTLS(up))
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to the provider: %w", err), conn.Close())
	}
	return t, nil
}

// imapTLS is the provider's TLS configuration with its name filled in.
func imapTLS(up IMAPUpstream) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if up.TLSConfig != nil {
		c = up.TLSConfig.Clone()
	}
	if c.ServerName == "" {
		c.ServerName, _, _ = net.SplitHostPort(up.Addr) // Dial has checked it
	}
	return c
}
