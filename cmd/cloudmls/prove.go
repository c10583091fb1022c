package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/device"
)

// prover waits for the key server's messages and tells the person so.
func prover(c *cobra.Command, g *config.Gateway, d *device.Device) device.Prover {
	return (&device.MailProver{Origin: g.KeyServer.Origin, Progress: progress(c), Password: device.ReadingPassword(d.Vault)}).Prove
}

func (r *running) prover(g *config.Gateway) device.Prover {
	return (&device.MailProver{
		Origin: g.KeyServer.Origin, Password: device.ReadingPassword(r.device.Vault),
		Progress: func(string, ...any) { r.log.Info("waiting for the key server's message in a mailbox") },
	}).Prove
}

// prove answers what the key server wants to know about accounts, while the
// gateway serves.
func (r *running) prove(ctx context.Context) {
	r.mu.Lock()
	g := r.g
	r.mu.Unlock()
	switch err := device.AddAccounts(ctx, r.client, g, r.prover(g)); {
	case ctx.Err() != nil:
	case err != nil:
		r.log.Error("an account is not proven at the key server, nothing can be encrypted with it", "err", err)
	default:
		r.log.Info("all accounts are proven at the key server")
	}
}

func accountProve() *cobra.Command {
	var file string
	var code secretSource
	var ask bool
	c := &cobra.Command{Use: "prove [ADDRESS]", Short: "Prove to the key server that an address is yours", Args: cobra.MaximumNArgs(1),
		Long: `Some key servers want a proof before an address can be used: they send a message to it. The gateway answers that by itself,
when it is set up and whenever it starts. This command does it without the gateway; with --code, --code-file or
--code-env it takes the code that stands in the message, for mailboxes that the gateway cannot look into in time.
The gateway must not run meanwhile.`,
		RunE: func(c *cobra.Command, args []string) error { return prove(c, file, args, code, ask) }}
	configFlag(c, &file, "the gateway's configuration file")
	c.Flags().BoolVar(&ask, "code", false, "ask for the code in the key server's message")
	code.flags(c, "code", "the code in the key server's message")
	return c
}

func prove(c *cobra.Command, file string, args []string, from secretSource, ask bool) error {
	g, a, err := oneAccount(file, args)
	if err != nil {
		return err
	}
	return alone(c, g, func(d *device.Device, client *cloudmls.Client) error {
		if err := proveAddress(c, g, a, d, client, from, ask); err != nil {
			return err
		}
		_, err := fmt.Fprintf(c.OutOrStdout(), "%s is yours at the key server %s\n", a.Address, g.KeyServer.Origin)
		return err
	})
}

// proveAddress takes the code from a person, or waits for the key server's
// message by itself.
func proveAddress(c *cobra.Command, g *config.Gateway, a *config.Account, d *device.Device, client *cloudmls.Client, from secretSource, ask bool) error {
	if !from.given() && !ask {
		only := *g
		only.Accounts = []config.Account{*a}
		return device.AddAccounts(c.Context(), client, &only, prover(c, g, d))
	}
	code, err := oneSecret(newStdinLines(c.InOrStdin()), from, "code in the key server's message", newTerminal(c).Secret)
	if err != nil {
		return err
	}
	return device.ProveByCode(c.Context(), client, a.Address, code.RevealString())
}
