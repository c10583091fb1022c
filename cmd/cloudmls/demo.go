package main

import (
	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/internal/demo"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	c := &cobra.Command{
		Use:   "demo",
		Short: "Play the main job on this machine: four people, two providers, a key server",
		Long: `Starts two mail providers in memory, a key server on a file in a temporary folder, and a gateway for each of four
people, all on loopback, and plays a story through ordinary IMAP and SMTP clients. For each step it prints what the
provider stores beside what the reader sees, and checks both. Exit code 1 if a check fails.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Out = c.OutOrStdout()
			return demo.Run(c.Context(), o)
		},
	}
	c.Flags().BoolVar(&o.Serve, "serve", false, "keep everything running and print the settings for a mail client")
	c.Flags().StringVar(&o.Dir, "dir", "", "keep the files in this empty folder instead of a temporary one")
	return c
}
