// Command cloudmls is the gateway, the key server, and the tools around them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/internal/secret"
)

// Exit codes: 0 done, 1 failed, 2 misused, 3 the configuration or the vault
// needs a person, 4 'status' or 'doctor' found something.
const (
	exitFailed    = 1
	exitMisused   = 2
	exitConfig    = 3
	exitAttention = 4
)

// configError is an error that starting again does not mend.
type configError struct{ err error }

func (e configError) Error() string { return e.err.Error() }
func (e configError) Unwrap() error { return e.err }

// misuse is an error of the command line rather than of the work.
type misuse struct{ err error }

func (m misuse) Error() string { return m.err.Error() }
func (m misuse) Unwrap() error { return m.err }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := secret.HardenProcess() // before anything is read: every command may come to hold a secret
	if err == nil {
		err = root().ExecuteContext(ctx)
	}
	stop()
	if code := report(os.Stderr, err); code != 0 {
		os.Exit(code)
	}
}

// report tells what went wrong, and what to do next where that is known.
func report(w io.Writer, err error) int {
	if err == nil {
		return 0
	}
	if errors.Is(err, errAttention) { // has been printed in full
		return exitAttention
	}
	fmt.Fprintf(w, "cloudmls: error: %s\n", plainText(err.Error()))
	var m misuse
	var config configError
	switch {
	case errors.As(err, &m):
		fmt.Fprintln(w, "Run 'cloudmls --help', or the command with --help, for its use.")
		return exitMisused
	case errors.As(err, &config):
		return exitConfig
	}
	return exitFailed
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:   "cloudmls",
		Short: "End-to-end encrypted mail for people who keep their mail client and their provider",
		Long: `cloudmls stands between a mail client and a mail provider: what leaves is encrypted with MLS (RFC 9420), what
arrives is decrypted, plain mail passes unchanged. The user's state lies sealed on a key server, so every device
reads the whole history with the password alone.

  cloudmls demo     see it work, on this machine only
  cloudmls setup    your mail address, the key server, your mail client
  cloudmls run      then point the mail client at it
  cloudmls status   how it fares, what is wrong, what to do`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return misuse{err} })
	group := func(id, title string, commands ...*cobra.Command) {
		c.AddGroup(&cobra.Group{ID: id, Title: title})
		for _, sub := range commands {
			sub.GroupID = id
			c.AddCommand(sub)
		}
	}
	group("begin", "To begin:", demoCommand(), setupCommand(), registerCommand())
	group("daily", "Every day:", runCommand(), statusCommand(), reloadCommand(), doctorCommand())
	group("mine", "What is yours:", accountCommand(), clientCommand(), deviceCommand(), storeCommand(), passwordCommand(), recoveryCodeCommand(), certCommand(), vaultCommand())
	group("people", "The people you write to:", conversationCommand(), contactCommand())
	group("operate", "To operate:", keyserverCommand(), configCommand(), serviceCommand(), versionCommand())
	c.SetHelpCommandGroupID("operate")
	c.SetCompletionCommandGroupID("operate")
	checkArguments(c)
	return c
}
