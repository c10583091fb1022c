package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/config"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check configuration files, or print their reference", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var keyServer bool
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a configuration file and report everything that is wrong with it",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var err error
			if keyServer {
				_, err = config.LoadKeyServer(args[0])
			} else {
				_, err = config.LoadGateway(args[0])
			}
			if err != nil {
				return configError{err}
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s: ok\n", args[0])
			return err
		},
	}
	check.Flags().BoolVar(&keyServer, "keyserver", false, "the file is a key server's")
	reference := &cobra.Command{
		Use:       "reference [gateway|keyserver]",
		Short:     "Print an annotated sample of a configuration file",
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"gateway", "keyserver"},
		RunE: func(c *cobra.Command, args []string) error {
			text := config.GatewayReference()
			if len(args) == 1 && args[0] == "keyserver" {
				text = config.KeyServerReference()
			}
			_, err := fmt.Fprint(c.OutOrStdout(), text)
			return err
		},
	}
	c.AddCommand(check, reference)
	return c
}
