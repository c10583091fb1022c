package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/internal/secret"
)

func clientCommand() *cobra.Command {
	c := &cobra.Command{Use: "client", Short: "Passwords of mail clients", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(&cobra.Command{
		Use:   "new NAME",
		Short: "Make a password for a mail client",
		Long: `Makes a password of 128 random bits for one mail client and prints it, once, with the lines for the account's table in
the gateway's configuration. The file holds its SHA-256 only.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			password, hash, err := secret.NewPassword()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "password: %s\n\n[[accounts.clients]]\nname = %q\npassword_sha256 = %q\n", password.RevealString(), args[0], hash.String())
			return err
		},
	})
	return c
}
