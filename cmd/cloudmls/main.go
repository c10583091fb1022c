// Command cloudmls is the gateway, the key server, and the tools around them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// Exit codes: 0 done, 1 failed, 2 misused.
const (
	exitFailed  = 1
	exitMisused = 2
)

// misuse is an error of the command line rather than of the work.
type misuse struct{ err error }

func (m misuse) Error() string { return m.err.Error() }
func (m misuse) Unwrap() error { return m.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := root().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "cloudmls: error: %v\n", err)
	var m misuse
	if errors.As(err, &m) {
		fmt.Fprintln(os.Stderr, "Run 'cloudmls --help', or the command with --help, for its use.")
		os.Exit(exitMisused)
	}
	os.Exit(exitFailed)
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "cloudmls",
		Short: "End-to-end encrypted mail for people who keep their mail client and their provider",
		Long: `cloudmls stands between a mail client and a mail provider: what leaves is encrypted with MLS (RFC 9420), what
arrives is decrypted, plain mail passes unchanged. The user's state lies sealed on a key server, so every device
reads the whole history with the password alone.

  cloudmls demo                              see it work, on this machine only
  cloudmls keyserver --config keyserver.toml
  cloudmls register --config gateway.toml    once per user
  cloudmls run --config gateway.toml         then point the mail client at it`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return misuse{err} })
	c.AddCommand(demoCommand(), runCommand(), registerCommand(), keyserverCommand(), clientCommand(), configCommand(), versionCommand())
	return c
}
