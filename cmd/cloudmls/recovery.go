package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/internal/device"
)

func recoveryCodeCommand() *cobra.Command {
	var file, to string
	var from secretSource
	c := &cobra.Command{
		Use:   "recovery-code",
		Short: "Make another recovery code, for one that was lost or seen by others",
		Long: `Makes another recovery code and shows it, once; the one before does not count any more. It takes the password at the key
server. Other devices stay yours, and ask for the password when they sign in again. The gateway must not run meanwhile.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return newRecoveryCode(c, file, to, from) },
	}
	configFlag(c, &file, "the gateway's configuration file")
	from.flags(c, "password", "your password at the key server")
	c.Flags().StringVar(&to, "recovery-file", "", "write the recovery code into this new file instead of showing it")
	return c
}

func newRecoveryCode(c *cobra.Command, file, to string, from secretSource) (err error) {
	g, err := config.LoadGateway(file)
	if err != nil {
		return configError{err}
	}
	running, err := control.Dial(c.Context(), controlSocket(g))
	if err == nil {
		return errors.Join(errors.New("the gateway runs; end it first"), running.Close())
	} else if !errors.Is(err, control.ErrNotRunning) {
		return err
	}
	into, err := newSecretFile(to)
	if err != nil {
		return fmt.Errorf("--recovery-file: %w", err)
	}
	defer into.drop()
	password, err := oneSecret(newStdinLines(c.InOrStdin()), from, "password at the key server", newTerminal(c).Secret)
	if err != nil {
		return err
	}
	log := newLogger(c.ErrOrStderr(), g.Log)
	stopKeyServer, err := localKeyServer(c, g, log)
	if err != nil {
		return err
	}
	defer stopKeyServer()
	d, err := device.Open(g, device.Options{Passphrase: passphrase(c, g), Logger: log})
	if err != nil {
		return err
	}
	defer closing(&err, "local store", d.Close)
	client, err := d.Resume(c.Context())
	if err != nil {
		return fmt.Errorf("this device is not signed in: %w (run 'cloudmls setup' or 'cloudmls run')", err)
	}
	defer closing(&err, "client", client.Close)
	code, err := d.NewCode(c.Context(), client, password)
	if err != nil {
		return err
	}
	if err := showRecovery(c, false, into, code); err != nil {
		return fmt.Errorf("the recovery code could not be handed over (run this again, it makes another one): %w", err)
	}
	return d.CodeSeen()
}
