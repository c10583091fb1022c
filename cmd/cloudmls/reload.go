package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/internal/device"
	"github.com/cloudmls/gateway/internal/systemd"
)

func reloadCommand() *cobra.Command {
	var out output
	c := serviceCommandOf(func(c *cobra.Command, s *service, _ []string) error {
		done, err := s.Reload(c.Context())
		if err != nil {
			return err
		}
		return out.print(c, done, func(w io.Writer) { writeReloaded(w, done) })
	})
	c.Use, c.Short, c.Args = "reload", "Make the running gateway read its configuration again", cobra.NoArgs
	c.Long = `Makes the running gateway read its configuration again. A file with an error changes nothing. Sessions of mail clients
go on; accounts that are gone from the file end theirs.`
	out.flag(c)
	return c
}

func writeReloaded(w io.Writer, r *control.Reloaded) {
	fmt.Fprintln(w, "the configuration was read again")
	for _, l := range []struct {
		what string
		who  []string
	}{{"added", r.Added}, {"removed", r.Removed}, {"kept", r.Kept}} {
		if len(l.who) > 0 {
			fmt.Fprintf(w, "%s: %s\n", l.what, strings.Join(l.who, ", "))
		}
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
}

// reload reads the configuration again. An error changes nothing.
func (r *running) reload(ctx context.Context) (*control.Reloaded, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell(systemd.Reloading())
	defer func() { r.tell(systemd.Ready("serving")) }()
	g, err := config.LoadGateway(r.file)
	if err != nil {
		return nil, err
	}
	if len(g.Accounts) == 0 {
		return nil, errors.New("the configuration has no accounts")
	}
	delta := config.Diff(r.g, g)
	accounts, err := gatewayAccounts(g, r.device.Vault, r.client, r.log)
	if err != nil {
		return nil, err
	}
	err = device.AddAccounts(ctx, r.client, g, nil)
	unproven := errors.Is(err, device.ErrUnproven)
	if err != nil && !unproven {
		if len(delta.Added) > 0 {
			return nil, fmt.Errorf("the new account could not be added at the key server: %w", err)
		}
		r.log.Warn("accounts could not be checked at the key server; going on with what is known", "err", err)
	}
	done, err := r.gateway.Reload(accounts)
	if err != nil {
		return nil, err
	}
	setLevel(r.level, g.Log)
	out := &control.Reloaded{Added: done.Added, Removed: done.Removed, Kept: done.Kept}
	for _, key := range delta.Restart {
		out.Notes = append(out.Notes, key+" has changed; that takes effect when the gateway is restarted")
	}
	if unproven {
		out.Notes = append(out.Notes, "the key server wants a proof that an address is yours; its message is being waited for, and nothing is encrypted until then")
		r.background(r.prove)
	}
	// What needs a restart stays what it is for the next comparison.
	kept := *g
	kept.DataDir, kept.Listen, kept.KeyServer, kept.User, kept.Vault = r.g.DataDir, r.g.Listen, r.g.KeyServer, r.g.User, r.g.Vault
	r.g = &kept
	r.log.Info("the configuration was read again", "added", len(out.Added), "removed", len(out.Removed), "kept", len(out.Kept))
	return out, nil
}

// reloadAfter makes a running gateway take a change up; where none runs there
// is nothing to do.
func reloadAfter(c *cobra.Command, file string, changed bool) error {
	if !changed {
		return nil
	}
	g, err := loadGateway(file)
	if err != nil {
		return err
	}
	s, err := control.Dial(c.Context(), controlSocket(g))
	if errors.Is(err, control.ErrNotRunning) {
		return nil
	} else if err != nil {
		return err
	}
	done, err := s.Reload(c.Context())
	if err := errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("the change is stored, but the running gateway did not take it up: %w", err)
	}
	out := c.ErrOrStderr()
	fmt.Fprintln(out, "the running gateway has taken the change up")
	for _, n := range slices.Compact(done.Notes) {
		fmt.Fprintf(out, "note: %s\n", n)
	}
	return nil
}
