// Package device opens what lies in a gateway's data folder: the vault with its
// key, the sealed local store, and through them the user's client of the key
// server.
//
// One process at a time can have a device open: the local store is locked while
// 'cloudmls run' serves.
package device

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/cloudmls/boltstore"
	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/vault"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// Names in the data folder.
const (
	storeFile = "device.db"
	vaultFile = "vault"
)

// Device is an opened data folder. It is safe for concurrent use.
type Device struct {
	Vault  *vault.Vault
	Remote *keyclient.Client

	key     secret.Secret
	store   *boltstore.Store
	options cloudmls.Options
}

// Options say how a data folder is opened.
type Options struct {
	// Create allows the folder, its key and its store to be made.
	Create bool
	// Passphrase is asked where the vault's key is kept under one.
	Passphrase func(newOne bool) (secret.Secret, error)
	Logger     *slog.Logger
}

// Open opens the data folder of a configuration. The caller closes the device
// after the clients it gave.
func Open(g *config.Gateway, o Options) (*Device, error) {
	if !o.Create {
		if _, err := os.Stat(filepath.Join(g.DataDir, storeFile)); err != nil {
			return nil, fmt.Errorf("this device is not set up: %w (run 'cloudmls setup')", err)
		}
	}
	key, err := openKey(g, o)
	if err != nil {
		return nil, err
	}
	d := &Device{key: key}
	if d.Vault, err = vault.Open(filepath.Join(g.DataDir, vaultFile), key); err != nil {
		return nil, err
	}
	if d.Remote, err = Remote(g); err != nil {
		return nil, err
	}
	if d.store, err = boltstore.Open(filepath.Join(g.DataDir, storeFile)); err != nil {
		return nil, err
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "gateway"
	}
	d.options = cloudmls.Options{
		Server: d.Remote, Store: d.store, VaultKey: key.Reveal(), Origin: g.KeyServer.Origin, DeviceName: name, Logger: o.Logger,
		DialStore: DialStore(g),
	}
	return d, nil
}

// OpenVault opens the vault alone, which works while a gateway runs.
func OpenVault(g *config.Gateway, o Options) (*vault.Vault, error) {
	key, err := openKey(g, o)
	if err != nil {
		return nil, err
	}
	return vault.Open(filepath.Join(g.DataDir, vaultFile), key)
}

func openKey(g *config.Gateway, o Options) (secret.Secret, error) {
	if o.Create {
		if err := os.MkdirAll(g.DataDir, 0o700); err != nil {
			return secret.Secret{}, fmt.Errorf("create data folder: %w", err)
		}
	}
	key, _, err := secret.OpenVaultKey(secret.VaultKeyOptions{
		Source: secret.VaultKeySource(g.Vault.Key), Dir: g.DataDir, Passphrase: o.Passphrase, CredentialName: g.Vault.Credential,
		Create: o.Create, Sealed: []string{storeFile},
	})
	return key, err
}

// Remote is the connection to the key server of a configuration.
func Remote(g *config.Gateway) (*keyclient.Client, error) {
	tlsConfig, err := Trust(g.KeyServer.CAFile)
	if err != nil {
		return nil, fmt.Errorf("key server: %w", err)
	}
	k := &g.KeyServer
	return keyclient.New(keyclient.Options{
		URL: k.URL, DeliveryURL: k.DeliveryURL, StoreURL: k.StoreURL, CBOR: true, HTTPClient: client(tlsConfig),
	})
}

// Refused reports whether an error is what a key server said, and not that there
// was none.
func Refused(err error) bool {
	var p *keyapi.Problem
	return errors.As(err, &p)
}

// Taken reports whether a key server said that a name or an account is somebody
// else's.
func Taken(err error) bool { return keyclient.IsCode(err, keyapi.CodeTaken) }

func client(c *tls.Config) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = c
	return &http.Client{Transport: transport}
}

// DialStore reaches stores of the user's own: their origin is their address, and
// they prove by their certificate that it is theirs. What is trusted for the key
// server says nothing of them: its operator could name any.
func DialStore(g *config.Gateway) func(context.Context, string) (cloudmls.StoreServer, error) {
	return func(_ context.Context, origin string) (cloudmls.StoreServer, error) {
		tlsConfig, err := TrustToo(g.KeyServer.StoreCAFile)
		if err != nil {
			return nil, err
		}
		return keyclient.New(keyclient.Options{URL: origin, CBOR: true, HTTPClient: client(tlsConfig)})
	}
}

// Close frees the local store.
func (d *Device) Close() error { return d.store.Close() }

// StatusToken is the installation's secret in the status field. It follows
// from the vault's key and so stays the same for the life of the installation.
func (d *Device) StatusToken() (string, error) {
	b, err := hkdf.Key(sha256.New, d.key.Reveal(), nil, "cloudmls/1 status token", 16)
	return hex.EncodeToString(b), err
}

// Resume continues as the user who is signed in on this device; the error is
// cloudmls.ErrNewDevice if nobody is.
func (d *Device) Resume(ctx context.Context) (*cloudmls.Client, error) {
	return cloudmls.Resume(ctx, d.options)
}

// SignIn continues on a known device, or signs a new one in with the password.
func (d *Device) SignIn(ctx context.Context, user string, password func() (secret.Secret, error)) (*cloudmls.Client, error) {
	client, err := d.Resume(ctx)
	if err == nil || !errors.Is(err, cloudmls.ErrNewDevice) {
		return client, err
	}
	p, err := password()
	if err != nil {
		return nil, err
	}
	return cloudmls.Open(ctx, user, p.RevealString(), d.options)
}

// SignInAgain signs a device in with the password whose session at the key server
// has ended: another device changed the password, or ended this one's access. Clients
// of the device are closed before.
func (d *Device) SignInAgain(ctx context.Context, user string, password secret.Secret) (*cloudmls.Client, error) {
	return cloudmls.Open(ctx, user, password.RevealString(), d.options)
}

// Register creates the user and signs this device in. The caller shows the
// recovery code and calls CodeSeen.
func (d *Device) Register(ctx context.Context, user string, password, invitation secret.Secret) (client *cloudmls.Client, recovery *cloudmls.Recovery, err error) {
	options := d.options
	options.Invitation = invitation.RevealString()
	err = d.expectCode(func() (err error) {
		client, recovery, err = cloudmls.Register(ctx, user, password.RevealString(), options)
		return err
	}, func(error) bool { // a refused registration leaves a new device
		known, err := d.Resume(ctx)
		if err == nil {
			err = known.Close()
		}
		return errors.Is(err, cloudmls.ErrNewDevice)
	})
	return client, recovery, err
}

// Recover signs this device in with the recovery code of a user who has
// forgotten the password, and sets a new one. The caller shows the new code and
// calls CodeSeen.
func (d *Device) Recover(ctx context.Context, user string, code, password secret.Secret) (client *cloudmls.Client, recovery *cloudmls.Recovery, err error) {
	err = d.expectCode(func() (err error) {
		client, recovery, err = cloudmls.Recover(ctx, user, code.RevealString(), password.RevealString(), d.options)
		return err
	}, refused)
	return client, recovery, err
}
