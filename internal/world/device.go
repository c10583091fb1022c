package world

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/cloudmls/boltstore"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/proxy"
	"github.com/cloudmls/gateway/smtpd"
)

// Device is one installation: a gateway with its local files. It keeps its
// addresses and passwords over restarts.
type Device struct {
	person   *Person
	dir      string
	vaultKey []byte
	password string // of its mail programs
	token    string // of the status field

	mu                 sync.Mutex
	imapAddr, smtpAddr string
	running            *deviceRun
}

type deviceRun struct {
	client  *cloudmls.Client
	remote  *keyclient.Client
	store   *boltstore.Store
	gateway *proxy.Gateway
	cancel  context.CancelFunc
	ended   chan error
}

// Start starts a device that was stopped; it needs no password. It does
// nothing if the device runs.
func (d *Device) Start(ctx context.Context) error {
	err := d.start(func(o cloudmls.Options) (*cloudmls.Client, error) { return cloudmls.Resume(ctx, o) })
	if err != nil {
		return fmt.Errorf("world: start device of %s: %w", d.person.Name, err)
	}
	return nil
}

func (d *Device) start(in signIn) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running != nil {
		return nil
	}
	r := &deviceRun{ended: make(chan error, 1)}
	if err := d.startParts(r, in); err != nil {
		return errors.Join(err, r.free())
	}
	d.running = r
	return nil
}

func (d *Device) startParts(r *deviceRun, in signIn) (err error) {
	w := d.person.world
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return err
	}
	if r.store, err = boltstore.Open(filepath.Join(d.dir, "device.db")); err != nil {
		return err
	}
	if r.remote, err = keyclient.New(keyclient.Options{URL: w.keys.URL()}); err != nil {
		return err
	}
	r.client, err = in(cloudmls.Options{
		Server: r.remote, Store: r.store, VaultKey: d.vaultKey, Origin: Origin,
		DeviceName: filepath.Base(d.dir), Logger: w.o.Logger, Now: w.o.Now,
	})
	if err != nil {
		return err
	}
	if r.gateway, err = d.gateway(r.client); err != nil {
		return err
	}
	l, err := d.listen()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() { r.ended <- r.gateway.Run(ctx, l) }()
	return nil
}

func (d *Device) gateway(client *cloudmls.Client) (*proxy.Gateway, error) {
	w := d.person.world
	cert, err := w.authority.Issue()
	if err != nil {
		return nil, err
	}
	return proxy.New(proxy.Options{
		Dir: filepath.Join(d.dir, "gateway"), StatusToken: d.token, Logger: w.o.Logger, Now: w.o.Now,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		Accounts:  []proxy.AccountConfig{d.person.account(client, d.password)},
	})
}

// account is a person's account at a gateway whose mail programs use a
// password.
func (p *Person) account(client *cloudmls.Client, password string) proxy.AccountConfig {
	provider := p.Provider()
	upstream := func(context.Context) (string, error) { return providerPassword(p.Name), nil }
	return proxy.AccountConfig{
		Client: client, Address: p.Address, CheckPassword: constantTime(password), Policy: p.Policy,
		IMAP: proxy.IMAPUpstream{Addr: provider.IMAPAddr(), TLSConfig: provider.ClientTLS(), Username: p.Address, Password: upstream},
		SMTP: smtpd.Upstream{Addr: provider.SMTPAddr(), TLSConfig: provider.ClientTLS(), Username: p.Address, Password: upstream},
	}
}

// Gateway is the device's gateway; nil while it is stopped.
func (d *Device) Gateway() *proxy.Gateway {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running == nil {
		return nil
	}
	return d.running.gateway
}

// Account is the account of somebody as this running device's gateway would
// have it: for its own person as it began, for others one more mailbox of the
// same user. Mail programs use the device's password.
func (d *Device) Account(of *Person) proxy.AccountConfig {
	return of.account(d.Client(), d.password)
}

// MailOf is Mail for one more mailbox of the same user.
func (d *Device) MailOf(p *Person) *MailProgram {
	m := d.Mail()
	m.Username = p.Address
	return m
}

func (d *Device) listen() (proxy.Listeners, error) {
	config := &net.ListenConfig{}
	imap, err := config.Listen(context.Background(), "tcp", d.imapAddr)
	if err != nil {
		return proxy.Listeners{}, err
	}
	smtp, err := config.Listen(context.Background(), "tcp", d.smtpAddr)
	if err != nil {
		return proxy.Listeners{}, errors.Join(err, imap.Close())
	}
	d.imapAddr, d.smtpAddr = imap.Addr().String(), smtp.Addr().String()
	return proxy.Listeners{IMAP: imap, SMTP: smtp}, nil
}

// Stop ends the gateway and closes its files; it does nothing if the device
// does not run.
func (d *Device) Stop() error {
	d.mu.Lock()
	r := d.running
	d.running = nil
	d.mu.Unlock()
	if r == nil {
		return nil
	}
	return r.free()
}

func (r *deviceRun) free() error {
	var errs []error
	if r.cancel != nil {
		r.cancel()
		errs = append(errs, <-r.ended)
	}
	if r.client != nil {
		errs = append(errs, r.client.Close())
	}
	if r.remote != nil {
		r.remote.Close()
	}
	if r.store != nil {
		errs = append(errs, r.store.Close())
	}
	return errors.Join(errs...)
}

// Client is the device's client at the key server; nil while it is stopped.
func (d *Device) Client() *cloudmls.Client {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running == nil {
		return nil
	}
	return d.running.client
}

// Dir is where the device keeps its files.
func (d *Device) Dir() string { return d.dir }

// StatusToken is the device's secret in the status field.
func (d *Device) StatusToken() string { return d.token }

// Mail is a mail program set up for this device's gateway.
func (d *Device) Mail() *MailProgram {
	d.mu.Lock()
	defer d.mu.Unlock()
	pool := d.person.world.authority.Pool()
	return &MailProgram{
		IMAPAddr: d.imapAddr, SMTPAddr: d.smtpAddr,
		TLS:      &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12},
		Username: d.person.Address, Password: d.password,
	}
}
