package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/cloudmls"
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

func newRecoveryCode(c *cobra.Command, file, to string, from secretSource) error {
	g, err := loadGateway(file)
	if err != nil {
		return err
	}
	if err := notRunning(c, g); err != nil { // before anything is asked
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
	return alone(c, g, func(d *device.Device, client *cloudmls.Client) error {
		code, err := d.NewCode(c.Context(), client, password)
		if err != nil {
			return err
		}
		if err := showRecovery(c, false, into, code); err != nil {
			return fmt.Errorf("the recovery code could not be handed over (run this again, it makes another one): %w", err)
		}
		return d.CodeSeen()
	})
}
