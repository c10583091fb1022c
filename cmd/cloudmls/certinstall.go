package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/internal/localtls/truststore"
)

func certInstallCommand() *cobra.Command {
	var (
		file   string
		kinds  []string
		dryRun bool
	)
	c := &cobra.Command{
		Use:   "install",
		Short: "Have mail programs and the system on this machine trust it",
		Long: `Adds the authority to the certificate stores that are found: the profiles of Thunderbird and Firefox on Linux (needs NSS
certutil), as root the authorities of a Debian system, the login keychain of macOS, the root certificates of the Windows
user. It says what it changed and how to undo it; --dry-run says what it would change. An older certificate of the
gateway in the same store is taken out. 'cloudmls cert uninstall' takes everything out again.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			wanted, err := storeKinds(kinds)
			if err != nil {
				return err
			}
			return certInstall(c, file, wanted, dryRun)
		},
	}
	configFlag(c, &file, "the gateway's configuration file")
	c.Flags().StringSliceVar(&kinds, "store", nil, "only these: thunderbird, firefox, system, keychain, windows")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing, say what would be done")
	return c
}

func storeKinds(names []string) ([]truststore.Kind, error) {
	var kinds []truststore.Kind
	for _, n := range names {
		k := truststore.Kind(n)
		if !slices.Contains(truststore.Kinds(), k) {
			return nil, misuse{fmt.Errorf("--store %s: unknown; known are %v", n, truststore.Kinds())}
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}

func certInstall(c *cobra.Command, file string, kinds []truststore.Kind, dryRun bool) error {
	p, dir, err := certPair(c, file)
	if err != nil {
		return err
	}
	m, l, err := certLedger(dir)
	if err != nil {
		return err
	}
	stores, skipped, err := m.Find(kinds...)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	for _, s := range skipped {
		fmt.Fprintf(c.ErrOrStderr(), "left out: %s\n", s)
	}
	if len(stores) == 0 {
		return fmt.Errorf("found no certificate store that can be changed; import %s in the mail client's settings", p.AuthorityFile)
	}
	var failed []error
	for _, s := range stores {
		add, remove := m.Describe(s, p.Authority, p.AuthorityFile)
		if dryRun {
			fmt.Fprintf(out, "would install in %s\n  by:   %s\n  undo: %s\n", s, add, remove)
			continue
		}
		if err := l.Install(c.Context(), s, p.Authority); err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintf(out, "installed in %s\n  undo: cloudmls cert uninstall, or %s\n", s, remove)
		if s.Kind == truststore.Thunderbird || s.Kind == truststore.Firefox {
			fmt.Fprintf(out, "  if %s is running, restart it\n", s.Kind)
		}
	}
	return errors.Join(failed...)
}

func certUninstallCommand() *cobra.Command {
	var (
		file   string
		dryRun bool
	)
	c := &cobra.Command{
		Use:   "uninstall",
		Short: "Take out what 'cert install' has added",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return certUninstall(c, file, dryRun)
		},
	}
	configFlag(c, &file, "the gateway's configuration file")
	c.Flags().BoolVar(&dryRun, "dry-run", false, "change nothing, say what would be done")
	return c
}

func certUninstall(c *cobra.Command, file string, dryRun bool) error {
	dir, err := certFolder(file)
	if err != nil {
		return err
	}
	m, l, err := certLedger(dir)
	if err != nil {
		return err
	}
	out := c.OutOrStdout()
	if len(l.Entries()) == 0 {
		fmt.Fprintln(out, "nothing is installed")
	}
	var failed []error
	for _, e := range l.Entries() {
		if dryRun {
			_, remove := m.Describe(e.Store, e.Certificate, "")
			fmt.Fprintf(out, "would remove it from %s\n  by: %s\n", e.Store, remove)
			continue
		}
		if err := l.Uninstall(c.Context(), e); err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintf(out, "removed from %s\n", e.Store)
	}
	return errors.Join(failed...)
}
