package main

import (
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

//go:embed units
var units embed.FS

// unitFiles are the units by what they are for.
var unitFiles = map[string]string{"user": "cloudmls.service", "system": "cloudmls@.service", "keyserver": "cloudmls-keyserver.service",
	"keyserver-socket": "cloudmls-keyserver.socket"}

func serviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "service", Short: "Units for systemd", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(&cobra.Command{
		Use:   "print {user|system|keyserver|keyserver-socket}",
		Short: "Print a unit, with the path of this program in it",
		Long: `Prints a unit of systemd; its first lines say where it belongs and how it is started.

  user              the gateway, run by a person's own systemd from login to logout
  system            the gateway of one user of a machine where nobody logs in (a template: cloudmls@USER)
  keyserver         the key server
  keyserver-socket  its socket, if restarts of the key server shall refuse nobody`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"user", "system", "keyserver", "keyserver-socket"},
		RunE: func(c *cobra.Command, args []string) error {
			text, err := unit(args[0])
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(c.OutOrStdout(), text)
			return err
		},
	})
	c.AddCommand(&cobra.Command{
		Use:   "install",
		Short: "Write the unit for this person's systemd",
		Long: `Writes cloudmls.service into the folder of this person's units ($XDG_CONFIG_HOME/systemd/user) and prints the command
that starts it. A unit that is there already is replaced only if it came from here.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return installUnit(c) },
	})
	return c
}

// unit is a unit with the path of the running program.
func unit(name string) (string, error) {
	b, err := units.ReadFile("units/" + unitFiles[name])
	if err != nil {
		return "", err
	}
	program, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	if strings.ContainsAny(program, " \t\n%\\\"'") {
		return "", fmt.Errorf("the path %q of this program has characters that a unit cannot hold; install it elsewhere, such as /usr/local/bin", program)
	}
	return strings.ReplaceAll(string(b), "@PROGRAM@", program), nil
}

func installUnit(c *cobra.Command) error {
	text, err := unit("user")
	if err != nil {
		return err
	}
	config, err := os.UserConfigDir()
	if err != nil {
		return err
	}
	name := filepath.Join(config, "systemd", "user", unitFiles["user"])
	first, _, _ := strings.Cut(text, "\n")
	if old, err := os.ReadFile(name); err == nil && !strings.HasPrefix(string(old), first) {
		return fmt.Errorf("%s is there and was written by someone else; move it away first", name)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "wrote %s\nstart it: systemctl --user daemon-reload && systemctl --user enable --now cloudmls\nits log:  journalctl --user -u cloudmls\n", name)
	return err
}
