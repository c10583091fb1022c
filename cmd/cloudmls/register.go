package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/secret"
)

func registerCommand() *cobra.Command {
	var file string
	var invitation secretSource
	c := &cobra.Command{
		Use:   "register",
		Short: "Create the user of a configuration file that was written by hand",
		Long: `For a configuration that was written by hand; 'cloudmls setup' does all of this and more. Creates the user at the key server, signs this device in, and adds the configured accounts. Prints the recovery code,
once: it is the only way back when the password is forgotten. Further devices need no registration: 'cloudmls run'
signs them in with the password. Run it again if it was interrupted; it continues.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return register(c, file, invitation) },
	}
	configFlag(c, &file, "the gateway's configuration file")
	invitation.flags(c, "invitation", "the invitation, where the key server wants one")
	return c
}

func register(c *cobra.Command, file string, from secretSource) (err error) {
	g, err := loadGateway(file)
	if err != nil {
		return err
	}
	password, err := readSecret(c, "password for the key server", g.User.PasswordFile, g.User.PasswordEnv)
	if err != nil {
		return err
	}
	var invitation secret.Secret
	if from.given() {
		if invitation, err = from.read(newStdinLines(c.InOrStdin())); err != nil {
			return err
		}
	}
	log := newLogger(c.ErrOrStderr(), g.Log)
	stopKeyServer, err := localKeyServer(c, g, log)
	if err != nil {
		return err
	}
	defer stopKeyServer()
	d, err := device.Open(g, device.Options{Create: true, Passphrase: passphrase(c, g), Logger: log})
	if err != nil {
		return err
	}
	defer closing(&err, "local store", d.Close)
	fmt.Fprintf(c.ErrOrStderr(), "registering %s at %s ...\n", g.User.Name, g.KeyServer.Origin)
	client, code, err := registerOrMakeUp(c.Context(), d, g.User.Name, password, invitation)
	if err != nil {
		if errors.Is(err, cloudmls.ErrOtherUser) {
			return fmt.Errorf("%w (or choose another data_dir)", err)
		}
		return err
	}
	defer closing(&err, "client", client.Close)
	if code != "" {
		if _, err := fmt.Fprintf(c.OutOrStdout(), "recovery code: %s\n", code); err != nil {
			return err
		}
		if err := d.CodeSeen(); err != nil {
			return err
		}
	}
	if err := device.AddAccounts(c.Context(), client, g, prover(c, g, d)); err != nil {
		return err
	}
	if code == "" {
		fmt.Fprintf(c.ErrOrStderr(), "This device is signed in as %s already; the configured accounts are there.\n"+
			"The recovery code was shown before; 'cloudmls recovery-code' makes another.\nNext: cloudmls run --config %s\n", g.User.Name, file)
		return nil
	}
	fmt.Fprintf(c.ErrOrStderr(), "Write the recovery code down and keep it apart from this machine; it is not shown again.\nNext: cloudmls run --config %s\n", file)
	return nil
}

// registerOrMakeUp registers, or makes another recovery code where a
// registration before was cut off between making one and showing it. The code
// is empty where the device is signed in as the user and nothing is missing.
func registerOrMakeUp(ctx context.Context, d *device.Device, user string, password, invitation secret.Secret) (*cloudmls.Client, string, error) {
	if known, err := d.Resume(ctx); err == nil {
		code, err := "", error(cloudmls.ErrOtherUser)
		if strings.EqualFold(known.Username(), user) {
			code, err = d.MissedCode(ctx, known, password)
		}
		if err != nil {
			return nil, "", errors.Join(err, known.Close())
		}
		return known, code, nil
	}
	client, recovery, err := d.Register(ctx, user, password, invitation)
	if err != nil {
		return nil, "", err
	}
	return client, recovery.Code, nil
}
