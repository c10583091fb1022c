package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/localtls"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/proxy"
	"github.com/cloudmls/gateway/smtpd"
)

func runCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway between mail clients and providers",
		Long: `Runs the gateway of a configuration file ('cloudmls config reference gateway' prints one, every key explained) until it
is interrupted. A device that has not signed in yet does so with the user's password, and reads everything from then on.
Mail clients connect to the listen addresses with the account's address as user name and a password of their own, made
by 'cloudmls client new'.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runGateway(c, file) },
	}
	configFlag(c, &file, "the gateway's configuration file")
	return c
}

func runGateway(c *cobra.Command, file string) (err error) {
	g, err := config.LoadGateway(file)
	if err != nil {
		return err
	}
	log := newLogger(c.ErrOrStderr(), g.Log)
	d, err := openDevice(g, log)
	if err != nil {
		return err
	}
	defer closing(&err, "local store", d.close)
	client, err := d.signIn(c.Context(), g.User.Name, func() (secret.Secret, error) {
		return readSecret(c, "password for the key server", g.User.PasswordFile, g.User.PasswordEnv)
	})
	if err != nil {
		if errors.Is(err, cloudmls.ErrCredentials) {
			return fmt.Errorf("%w (a new user is created with 'cloudmls register --config %s')", err, file)
		}
		return fmt.Errorf("sign in: %w", err)
	}
	defer closing(&err, "client", client.Close)
	if err := addAccounts(c.Context(), client, g); err != nil {
		log.Warn("accounts could not be checked at the key server; going on with what is known", "err", err)
	}
	o, err := gatewayOptions(g, d, client, log)
	if err != nil {
		return err
	}
	if g.Listen.TLS == "implicit" {
		certificates, err := localtls.Open(inDir(g.DataDir, "tls"), time.Now)
		if err != nil {
			return fmt.Errorf("certificate for mail clients: %w", err)
		}
		o.TLSConfig = certificates.TLSConfig()
		var renewing sync.WaitGroup
		until, stop := context.WithCancel(c.Context())
		renewing.Go(func() { renew(until, certificates, log) })
		defer func() {
			stop()
			renewing.Wait()
		}()
		fmt.Fprintf(c.OutOrStdout(), "mail clients should trust the certificate %s\n", certificates.Pair().AuthorityFile)
	}
	gateway, err := proxy.New(*o)
	if err != nil {
		return err
	}
	l, err := listen(c.Context(), g)
	if err != nil {
		// Run frees what New has opened; with an ended context it serves nothing.
		stopped, cancel := context.WithCancel(c.Context())
		cancel()
		return errors.Join(err, gateway.Run(stopped, proxy.Listeners{}))
	}
	fmt.Fprintf(c.OutOrStdout(), "ready: IMAP %s, SMTP %s, TLS %s\n", l.IMAP.Addr(), l.SMTP.Addr(), g.Listen.TLS)
	return ended(c.Context(), gateway.Run(c.Context(), l))
}

// renew looks once a day whether the certificate has to be replaced.
func renew(ctx context.Context, certificates *localtls.Source, log *slog.Logger) {
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-day.C:
		}
		if pair, err := certificates.Reload(); err != nil {
			log.Error("the certificate for mail clients could not be renewed", "err", err)
		} else if pair.Created {
			log.Warn("the certificate for mail clients was renewed; they have to trust the new one", "file", pair.AuthorityFile)
		}
	}
}

func listen(ctx context.Context, g *config.Gateway) (proxy.Listeners, error) {
	var lc net.ListenConfig
	imap, err := lc.Listen(ctx, "tcp", g.Listen.IMAP)
	if err != nil {
		return proxy.Listeners{}, err
	}
	smtp, err := lc.Listen(ctx, "tcp", g.Listen.SMTP)
	if err != nil {
		return proxy.Listeners{}, errors.Join(err, imap.Close())
	}
	return proxy.Listeners{IMAP: imap, SMTP: smtp}, nil
}

// gatewayOptions turns the configuration into the gateway's options.
func gatewayOptions(g *config.Gateway, d *device, client *cloudmls.Client, log *slog.Logger) (*proxy.Options, error) {
	token, err := d.statusToken()
	if err != nil {
		return nil, err
	}
	o := &proxy.Options{Dir: inDir(g.DataDir, "gateway"), StatusToken: token, Logger: log}
	for _, a := range g.Accounts {
		account := proxy.AccountConfig{
			Client: client, Address: a.Address,
			Policy: proxy.Policy{
				Default: proxy.Mode(a.Policy), Omitted: proxy.Omitted(a.Omitted), Recipients: modes(a.Recipients),
				Domains: modes(a.Domains), KnownLists: a.KnownLists, HideThreading: a.HideThreading,
			},
		}
		if account.CheckPassword, err = clientPasswords(a.Clients); err != nil {
			return nil, fmt.Errorf("account %s: %w", a.Address, err)
		}
		for _, p := range []config.Provider{a.IMAP, a.SMTP} {
			if p.PasswordFile == "" && p.PasswordEnv == "" {
				return nil, fmt.Errorf("account %s: no password for %s: name a password_file or password_env", a.Address, p.Host)
			}
		}
		if account.IMAP, err = imapUpstream(a); err != nil {
			return nil, fmt.Errorf("account %s, imap: %w", a.Address, err)
		}
		if account.SMTP, err = smtpUpstream(a); err != nil {
			return nil, fmt.Errorf("account %s, smtp: %w", a.Address, err)
		}
		o.Accounts = append(o.Accounts, account)
	}
	return o, nil
}

func modes(m map[string]string) map[string]proxy.Mode {
	out := make(map[string]proxy.Mode, len(m))
	for k, v := range m {
		out[k] = proxy.Mode(v)
	}
	return out
}

// clientPasswords checks a mail client's password against all of an account's,
// in the same time whichever of them it is.
func clientPasswords(clients []config.Client) (func(string) bool, error) {
	var hashes []secret.PasswordHash
	for _, c := range clients {
		h, err := secret.ParsePasswordHash(c.PasswordSHA256)
		if err != nil {
			return nil, fmt.Errorf("client %s: %w", c.Name, err)
		}
		hashes = append(hashes, h)
	}
	return func(password string) bool {
		ok := false
		for _, h := range hashes {
			ok = h.Matches([]byte(password)) || ok
		}
		return ok
	}, nil
}

var tlsModes = map[string]smtpd.TLSMode{"implicit": smtpd.TLSImplicit, "starttls": smtpd.TLSStartTLS, "none": smtpd.TLSNone}

func imapUpstream(a config.Account) (proxy.IMAPUpstream, error) {
	tlsConfig, err := trust(a.IMAP.CAFile)
	return proxy.IMAPUpstream{
		Addr: net.JoinHostPort(a.IMAP.Host, strconv.Itoa(a.IMAP.Port)), Mode: tlsModes[a.IMAP.TLS], TLSConfig: tlsConfig,
		Username: a.IMAP.Username, Password: providerPassword(a.IMAP),
	}, err
}

func smtpUpstream(a config.Account) (smtpd.Upstream, error) {
	tlsConfig, err := trust(a.SMTP.CAFile)
	return smtpd.Upstream{
		Addr: net.JoinHostPort(a.SMTP.Host, strconv.Itoa(a.SMTP.Port)), Mode: tlsModes[a.SMTP.TLS], TLSConfig: tlsConfig,
		Username: a.SMTP.Username, Password: providerPassword(a.SMTP),
	}, err
}

// providerPassword reads the password anew for each connection, so a changed
// file needs no restart.
func providerPassword(p config.Provider) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		from, where := secret.FromFile, p.PasswordFile
		if where == "" {
			from, where = secret.FromEnv, p.PasswordEnv
		}
		s, err := from(where)
		return s.RevealString(), err
	}
}
