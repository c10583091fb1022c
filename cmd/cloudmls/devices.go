package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/internal/secret"
	"github.com/cloudmls/gateway/internal/setup"
)

func deviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "device", Aliases: []string{"devices"}, Short: "Your devices: list them, end one's access, replace all keys", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var out output
	list := serviceCommandOf(func(c *cobra.Command, s *service, _ []string) error {
		devices, err := s.Devices(c.Context())
		if err != nil {
			return err
		}
		return out.print(c, devices, func(w io.Writer) { writeDevices(w, devices, time.Now()) })
	})
	list.Use, list.Short, list.Args = "list", "List the devices that are signed in as you", cobra.NoArgs
	out.flag(list)
	revoke := serviceCommandOf(func(c *cobra.Command, s *service, args []string) error {
		if err := s.RevokeDevice(c.Context(), args[0]); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), "the device's access has ended. If it is in wrong hands, change the password too, then replace all keys: cloudmls password; cloudmls device lost")
		return err
	})
	revoke.Use, revoke.Short, revoke.Args = "revoke ID", "End the access of a lost device", cobra.ExactArgs(1)
	c.AddCommand(list, revoke, deviceLost())
	return c
}

func writeDevices(w io.Writer, devices []control.Device, now time.Time) {
	rows := [][]string{{"ID", "NAME", "ADDED", "LAST SEEN", ""}}
	for _, d := range devices {
		note := ""
		switch {
		case d.This:
			note = "this one"
		case !d.SignedIn:
			note = "signed out"
		}
		rows = append(rows, []string{d.ID, d.Name, day(d.Added), ago(d.LastSeen, now), note})
	}
	table(w, rows...)
}

func passwordCommand() *cobra.Command {
	var old, fresh secretSource
	c := serviceCommandOf(func(c *cobra.Command, s *service, _ []string) error {
		in, t := newStdinLines(c.InOrStdin()), newTerminal(c)
		current, err := oneSecret(in, old, "current password", t.Secret)
		if errors.Is(err, errNotATerminal) {
			err = fmt.Errorf("%w: pass --old-file or --old-env", err)
		}
		if err != nil {
			return err
		}
		next, err := oneSecret(in, fresh, "new password", t.NewSecret)
		if errors.Is(err, errNotATerminal) {
			err = fmt.Errorf("%w: pass --new-file or --new-env", err)
		}
		if err != nil {
			return err
		}
		if err := setup.CheckNewPassword(next); err != nil {
			return err
		}
		if err := s.ChangePassword(c.Context(), control.Secret(current.RevealString()), control.Secret(next.RevealString())); err != nil {
			return err
		}
		_, err = fmt.Fprintln(c.OutOrStdout(), "the password is changed; other devices of yours sign in with it again: cloudmls setup --sign-in")
		return err
	})
	c.Use, c.Short, c.Args = "password", "Change the password at the key server", cobra.NoArgs
	c.Long = `Changes the password at the key server. Nothing that was encrypted has to be encrypted again, and no other device loses
anything but its session: 'cloudmls setup --sign-in' signs it in again with the new password.`
	old.flags(c, "old", "the current password")
	fresh.flags(c, "new", "the new password")
	return c
}

// oneSecret reads from where the command line says, else asks.
func oneSecret(in *stdinLines, from secretSource, what string, ask func(string) (secret.Secret, error)) (secret.Secret, error) {
	if !from.given() {
		return ask(what)
	}
	s, err := from.read(in)
	if err != nil {
		return s, fmt.Errorf("%s: %w", what, err)
	}
	return s, nil
}
