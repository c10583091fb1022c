package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/cloudmls/boltstore"
	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/control"
	controlservice "github.com/cloudmls/gateway/internal/control/service"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/localtls"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/systemd"
	"github.com/cloudmls/gateway/internal/vault"
	"github.com/cloudmls/gateway/proxy"
)

func runCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway between mail clients and providers",
		Long: `Runs the gateway until it is interrupted; 'cloudmls setup' makes its configuration. A device that has not signed in yet
does so with the user's password, and reads everything from then on. Mail clients connect to the listen addresses with
the account's address as user name and a password of their own ('cloudmls client add').

SIGHUP or 'cloudmls reload' makes it read the configuration again; no mail client notices. 'cloudmls status' tells how
it fares. Under systemd it reports when it is ready and logs to the journal.

Exit code: 0 it was ended, 1 it failed and may work if started again, 3 the configuration or the vault needs a person.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runGateway(c, file) },
	}
	configFlag(c, &file, "the gateway's configuration file")
	return c
}

// running is a gateway and what stands around it.
type running struct {
	file    string
	level   *slog.LevelVar
	log     *slog.Logger
	device  *device.Device
	client  *cloudmls.Client
	gateway *proxy.Gateway

	unproven   bool                             // the key server wants a proof for an account
	background func(work func(context.Context)) // runs until the gateway ends; set by serve

	mu sync.Mutex // guards g, and lets one reload happen at a time
	g  *config.Gateway
}

func runGateway(c *cobra.Command, file string) (err error) {
	g, err := loadGateway(file)
	if err != nil {
		return err
	}
	r := &running{file: file, g: g, level: &slog.LevelVar{}}
	r.log = levelLogger(c.ErrOrStderr(), g.Log, r.level)
	// The socket comes first: who has it is the gateway of this data folder.
	if err := makeDir(g.DataDir); err != nil {
		return err
	}
	socket, err := control.Listen(controlSocket(g))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeOnce(socket)) }()
	stopKeyServer, err := localKeyServer(c, g, r.log)
	if err != nil {
		return err
	}
	defer stopKeyServer()
	if err := r.openDevice(c); err != nil {
		return err
	}
	defer closing(&err, "local store", r.device.Close)
	if err := r.signIn(c); err != nil {
		return err
	}
	defer func() { closing(&err, "client", r.client.Close) }() // which may be another one by then
	if err := r.addAccounts(c); err != nil {
		return err
	}
	return r.serve(c, socket)
}

// addAccounts adds the configured accounts at the key server, signing in again
// where the session has ended. Without the key server the gateway goes on.
func (r *running) addAccounts(c *cobra.Command) error {
	err := device.AddAccounts(c.Context(), r.client, r.g, nil)
	if errors.Is(err, cloudmls.ErrSignedOut) {
		if err = r.signInAgain(c); err != nil {
			return err
		}
		if !r.client.SignedIn() {
			return nil // has been said
		}
		err = device.AddAccounts(c.Context(), r.client, r.g, nil)
	}
	if errors.Is(err, device.ErrUnproven) {
		r.unproven = true
	} else if err != nil {
		r.log.Warn("accounts could not be checked at the key server; going on with what is known", "err", err)
	}
	return nil
}

func (r *running) openDevice(c *cobra.Command) error {
	d, err := device.Open(r.g, device.Options{Create: true, Passphrase: passphrase(c, r.g), Logger: r.log})
	if err != nil {
		return needsPerson(err)
	}
	r.device = d
	return nil
}

// needsPerson makes what starting again does not mend a configError: files that
// are missing, damaged, or others' to read, and secrets that nobody is there to
// be asked for.
func needsPerson(err error) error {
	for _, e := range []error{
		secret.ErrNoVaultKey, secret.ErrVaultKey, secret.ErrVaultKeySource, secret.ErrVaultKeyWrong, secret.ErrExposed,
		vault.ErrKey, vault.ErrDamaged, vault.ErrGone, boltstore.ErrFormat, errNotATerminal, fs.ErrNotExist, fs.ErrPermission,
	} {
		if errors.Is(err, e) {
			return configError{err}
		}
	}
	return err
}

func (r *running) signIn(c *cobra.Command) error {
	client, err := r.device.SignIn(c.Context(), r.g.User.Name, func() (secret.Secret, error) {
		return readSecret(c, "password for the key server", r.g.User.PasswordFile, r.g.User.PasswordEnv)
	})
	if err != nil {
		if errors.Is(err, cloudmls.ErrCredentials) {
			return configError{fmt.Errorf("%w (a new user is made with 'cloudmls setup' or 'cloudmls register')", err)}
		}
		return needsPerson(fmt.Errorf("sign in: %w", err))
	}
	r.client = client
	return nil
}

// signInAgain signs in on a device whose session at the key server has ended.
// Where the password cannot be had or is refused, the gateway goes on as it is:
// what is here can be read.
func (r *running) signInAgain(c *cobra.Command) error {
	goOn := func(why error) error {
		r.log.Warn("this device is signed out of the key server: mail that is here can be read, none is sent. End the gateway, sign in with 'cloudmls setup --sign-in', start it again", "err", why)
		return nil
	}
	u := &r.g.User
	password, err := readSecret(c, "this device was signed out of the key server; password of "+u.Name+" there", u.PasswordFile, u.PasswordEnv)
	if err != nil {
		return goOn(err)
	}
	if err := r.client.Close(); err != nil {
		return err
	}
	client, why := r.device.SignInAgain(c.Context(), u.Name, password)
	if why == nil {
		r.client = client
		r.log.Info("signed in again at the key server")
		return nil
	}
	if client, err = r.device.Resume(c.Context()); err != nil {
		return errors.Join(why, err)
	}
	r.client = client
	return goOn(why)
}

// serve runs until the command's context ends.
func (r *running) serve(c *cobra.Command, socket net.Listener) error {
	token, err := r.device.StatusToken()
	if err != nil {
		return err
	}
	o := proxy.Options{Dir: filepath.Join(r.g.DataDir, "gateway"), StatusToken: token, Logger: r.log}
	if o.Accounts, err = gatewayAccounts(r.g, r.device.Vault, r.client, r.log); err != nil {
		return needsPerson(err)
	}
	ctx, stop := context.WithCancel(c.Context())
	var others sync.WaitGroup
	defer others.Wait()
	defer stop()
	r.background = func(work func(context.Context)) { others.Go(func() { work(ctx) }) }
	if r.g.Listen.TLS == "implicit" {
		certificates, err := localtls.Open(filepath.Join(r.g.DataDir, "tls"), time.Now)
		if err != nil {
			return configError{fmt.Errorf("certificate for mail clients: %w ('cloudmls cert renew' makes another one)", err)}
		}
		o.TLSConfig = certificates.TLSConfig()
		others.Go(func() { renew(ctx, certificates, r.log) })
		fmt.Fprintf(c.OutOrStdout(), "mail clients should trust the certificate %s\n", certificates.Pair().AuthorityFile)
	}
	if r.gateway, err = proxy.New(o); err != nil {
		return err
	}
	l, err := listen(ctx, r.g)
	if err != nil {
		// Run frees what New has opened; with an ended context it serves nothing.
		stop()
		return errors.Join(err, r.gateway.Run(ctx, proxy.Listeners{}))
	}
	s, err := controlservice.New(controlservice.Options{
		Client: r.client, Gateway: r.gateway, Reload: r.reload, Version: version(), Logger: r.log,
	})
	if err != nil {
		stop()
		return errors.Join(err, r.gateway.Run(ctx, l))
	}
	others.Go(func() {
		if err := control.Serve(ctx, socket, s, r.log); err != nil {
			r.log.Error("commands cannot reach the gateway any more", "err", err)
		}
	})
	others.Go(func() { r.reloadOnSignal(ctx) })
	if r.unproven {
		r.background(r.prove)
	}
	ready := fmt.Sprintf("ready: IMAP %s, SMTP %s, TLS %s", l.IMAP.Addr(), l.SMTP.Addr(), r.g.Listen.TLS)
	fmt.Fprintln(c.OutOrStdout(), ready)
	r.tell(systemd.Ready(ready))
	err = ended(c.Context(), r.gateway.Run(ctx, l))
	r.tell(systemd.Stopping())
	return err
}

// tell logs that systemd could not be told; the gateway serves all the same.
func (r *running) tell(err error) {
	if err != nil {
		r.log.Warn("systemd does not listen", "err", err)
	}
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
		return proxy.Listeners{}, notListening("imap", err)
	}
	smtp, err := lc.Listen(ctx, "tcp", g.Listen.SMTP)
	if err != nil {
		return proxy.Listeners{}, errors.Join(notListening("smtp", err), imap.Close())
	}
	return proxy.Listeners{IMAP: imap, SMTP: smtp}, nil
}

// notListening says what to do about an address that mail clients should reach.
func notListening(key string, err error) error {
	return fmt.Errorf("%s under [listen]: %w (end the program that is there, or choose another port: cloudmls setup --listen-%s 127.0.0.1:PORT)", key, err, key)
}

// closeOnce closes a listener that may have been closed by who served it.
func closeOnce(l net.Listener) error {
	if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
