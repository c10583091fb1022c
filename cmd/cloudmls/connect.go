package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/control"
	controlservice "github.com/cloudmls/gateway/internal/control/service"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/secret"
)

// service is what commands ask: the running gateway, or, where none runs, the
// device itself.
type service struct {
	control.Service
	g     *config.Gateway
	close func()
}

// openService connects to the running gateway of a configuration. Where none
// runs it opens the device in this process.
func openService(c *cobra.Command, file string) (*service, error) {
	g, err := loadGateway(file)
	if err != nil {
		return nil, err
	}
	running, err := control.Dial(c.Context(), controlSocket(g))
	if err == nil {
		return &service{Service: patient{running, c.ErrOrStderr(), patience}, g: g, close: func() { _ = running.Close() }}, nil // nothing is buffered
	}
	if !errors.Is(err, control.ErrNotRunning) {
		return nil, err
	}
	return ownService(c, g, file)
}

// ownService is the device opened by the command itself.
func ownService(c *cobra.Command, g *config.Gateway, file string) (_ *service, err error) {
	log := newLogger(c.ErrOrStderr(), g.Log)
	stopKeyServer, err := localKeyServer(c, g, log)
	if err != nil {
		return nil, err
	}
	d, err := device.Open(g, device.Options{Passphrase: passphrase(c, g), Logger: log})
	if err != nil {
		stopKeyServer()
		return nil, err
	}
	client, err := d.Resume(c.Context())
	if err != nil {
		stopKeyServer()
		return nil, errors.Join(fmt.Errorf("this device is not signed in: %w (run 'cloudmls setup' or 'cloudmls run')", err), d.Close())
	}
	s, err := controlservice.New(controlservice.Options{Client: client, Logger: log})
	if err != nil {
		stopKeyServer()
		return nil, errors.Join(err, client.Close(), d.Close())
	}
	return &service{Service: patient{s, c.ErrOrStderr(), patience}, g: g, close: func() {
		if err := errors.Join(client.Close(), d.Close()); err != nil {
			log.Error("close the device", "err", err)
		}
		stopKeyServer()
	}}, nil
}

func controlSocket(g *config.Gateway) string { return filepath.Join(g.DataDir, "control.sock") }

// passphrase reads the vault's passphrase from where the configuration says.
func passphrase(c *cobra.Command, g *config.Gateway) func(bool) (secret.Secret, error) {
	return func(newOne bool) (secret.Secret, error) {
		switch {
		case g.Vault.PassphraseFile != "":
			return secret.FromFile(g.Vault.PassphraseFile)
		case g.Vault.PassphraseEnv != "":
			return secret.FromEnv(g.Vault.PassphraseEnv)
		case newOne:
			return newTerminal(c).NewSecret("new passphrase of the vault")
		}
		return newTerminal(c).Secret("passphrase of the vault")
	}
}

// serviceCommandOf makes a command that asks the service.
func serviceCommandOf(run func(*cobra.Command, *service, []string) error) *cobra.Command {
	var file string
	c := &cobra.Command{RunE: func(c *cobra.Command, args []string) error {
		s, err := openService(c, file)
		if err != nil {
			return err
		}
		defer s.close()
		return run(c, s, args)
	}}
	configFlag(c, &file, "the gateway's configuration file")
	return c
}

// accountCommandOf makes a command that asks the service about one account.
func accountCommandOf(run func(c *cobra.Command, s *service, account string, args []string) error) *cobra.Command {
	var account string
	c := serviceCommandOf(func(c *cobra.Command, s *service, args []string) error {
		a, err := chooseAccount(s.g, account)
		if err != nil {
			return err
		}
		return run(c, s, a.Address, args)
	})
	accountFlag(c, &account)
	return c
}

func accountFlag(c *cobra.Command, account *string) {
	c.Flags().StringVarP(account, "account", "a", "", "which of your accounts, by its address (not needed if there is one)")
}

// chooseAccount finds an account by its address; the only one needs no name.
func chooseAccount(g *config.Gateway, address string) (*config.Account, error) {
	var all []string
	for i, a := range g.Accounts {
		if strings.EqualFold(a.Address, address) || address == "" && len(g.Accounts) == 1 {
			return &g.Accounts[i], nil
		}
		all = append(all, a.Address)
	}
	if address == "" {
		return nil, misuse{fmt.Errorf("there are several accounts; say which with --account: %s", strings.Join(all, ", "))}
	}
	return nil, fmt.Errorf("no account %s is configured; there are: %s", address, strings.Join(all, ", "))
}
