package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/internal/secret"
)

func vaultCommand() *cobra.Command {
	c := &cobra.Command{Use: "vault", Short: "Where the key lies that seals this device's secrets", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(vaultMove())
	return c
}

func vaultMove() *cobra.Command {
	var file string
	var fresh, old secretSource
	c := &cobra.Command{Use: "move {file|keyring|passphrase|credential}", Short: "Keep the vault's key elsewhere", ValidArgs: []string{"file", "keyring", "passphrase", "credential"},
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		Long: `Moves the key of the vault: it is written to the new place, read back from there, and only then removed from the old.
The gateway must not run meanwhile. A credential of systemd is made by the administrator and must hold the same key.`,
		RunE: func(c *cobra.Command, args []string) error {
			g, err := loadGateway(file)
			if err != nil {
				return err
			}
			running, err := control.Dial(c.Context(), controlSocket(g))
			if err == nil {
				return errors.Join(errRunning, running.Close())
			} else if !errors.Is(err, control.ErrNotRunning) {
				return err
			}
			in := newStdinLines(c.InOrStdin())
			now := secret.VaultKeyOptions{Source: secret.VaultKeySource(g.Vault.Key), Dir: g.DataDir, CredentialName: g.Vault.Credential}
			now.Passphrase = passphraseFrom(in, old, passphrase(c, g))
			to := now
			to.Source, to.Passphrase = secret.VaultKeySource(args[0]), passphraseFrom(in, fresh, passphrase(c, g))
			if err := secret.ChangeVaultKeySource(now, to); err != nil {
				return err
			}
			if err := editConfig(file, config.Set(args[0], "vault", "key")); err != nil {
				return fmt.Errorf("the key has moved to %s, but the configuration could not be changed: set key = %q under [vault] in %s: %w", args[0], args[0], file, err)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "the vault's key comes from %s now\n", args[0])
			return err
		}}
	configFlag(c, &file, "the gateway's configuration file")
	fresh.flags(c, "passphrase", "the new passphrase, for 'move passphrase'")
	old.flags(c, "old-passphrase", "the present passphrase, where the key is under one")
	return c
}

// passphraseFrom reads from where the command line says, else asks.
func passphraseFrom(in *stdinLines, from secretSource, ask func(bool) (secret.Secret, error)) func(bool) (secret.Secret, error) {
	if !from.given() {
		return ask
	}
	return func(bool) (secret.Secret, error) { return from.read(in) }
}
