package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/cloudmls/boltstore"
	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// device is what lies in the gateway's data folder: the vault key, the sealed
// local store, and through them the user's client.
type device struct {
	vaultKey secret.Secret
	store    *boltstore.Store
	remote   *keyclient.Client
	options  cloudmls.Options
}

func openDevice(g *config.Gateway, log *slog.Logger) (*device, error) {
	if err := makeDir(g.DataDir); err != nil {
		return nil, err
	}
	d := &device{}
	var err error
	if d.vaultKey, _, err = secret.EnsureVaultKey(inDir(g.DataDir, "vault.key")); err != nil {
		return nil, fmt.Errorf("vault key: %w", err)
	}
	tlsConfig, err := trust(g.KeyServer.CAFile)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = tlsConfig
	d.remote, err = keyclient.New(keyclient.Options{URL: g.KeyServer.URL, HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return nil, err
	}
	if d.store, err = boltstore.Open(inDir(g.DataDir, "device.db")); err != nil {
		return nil, err
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		name = "gateway"
	}
	d.options = cloudmls.Options{
		Server: d.remote, Store: d.store, VaultKey: d.vaultKey.Reveal(), Origin: g.KeyServer.Origin,
		DeviceName: name, Logger: log,
	}
	return d, nil
}

func (d *device) close() error { return d.store.Close() }

// statusToken is the installation's secret in the status field. It follows
// from the vault key and so stays the same for the life of the installation.
func (d *device) statusToken() (string, error) {
	b, err := derive(d.vaultKey, "status token", 16)
	return hex.EncodeToString(b), err
}

// signIn continues on a known device, or signs a new one in with the password.
func (d *device) signIn(ctx context.Context, user string, password func() (secret.Secret, error)) (*cloudmls.Client, error) {
	client, err := cloudmls.Resume(ctx, d.options)
	if err == nil || !errors.Is(err, cloudmls.ErrNewDevice) {
		return client, err
	}
	p, err := password()
	if err != nil {
		return nil, err
	}
	return cloudmls.Open(ctx, user, p.RevealString(), d.options)
}

// addAccounts makes the configured accounts the user's; repeating it repairs.
func addAccounts(ctx context.Context, client *cloudmls.Client, g *config.Gateway) error {
	for i, a := range g.Accounts {
		if err := client.AddAccount(ctx, cloudmls.Account{Platform: cloudmls.PlatformEmail, ID: a.Address}); err != nil {
			return fmt.Errorf("add account %d of the configuration: %w", i+1, err) // the log names no addresses
		}
	}
	return nil
}
