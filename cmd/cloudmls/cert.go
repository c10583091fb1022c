package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/internal/localtls"
	"github.com/cloudmls/gateway/internal/localtls/truststore"
)

func certCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "cert",
		Short: "The certificate that the gateway shows to mail clients",
		Long: `The gateway's listeners show a certificate for localhost, signed by an authority of this installation. The authority may
sign for this machine's loopback addresses only, and its key was destroyed when it had signed once; so a mail client or
the system can trust it without risk. Mail clients need the authority: install it with 'cloudmls cert install', or export
it and import the file in the mail client's settings.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(certShowCommand(), certExportCommand(), certRenewCommand(), certInstallCommand(), certUninstallCommand())
	return c
}

// certFolder is where the certificate of a configuration lies.
func certFolder(file string) (string, error) {
	g, err := loadGateway(file)
	if err != nil {
		return "", err
	}
	return filepath.Join(g.DataDir, "tls"), nil
}

// certPair returns the pair of a configuration, and makes one if there is none:
// a mail client can be prepared before the gateway first runs. Unlike the
// gateway it never renews.
func certPair(c *cobra.Command, file string) (*localtls.Pair, string, error) {
	dir, err := certFolder(file)
	if err != nil {
		return nil, "", err
	}
	p, err := localtls.Load(dir, time.Now())
	if errors.Is(err, fs.ErrNotExist) {
		if p, err = localtls.Ensure(dir, time.Now()); err == nil && p.Created {
			fmt.Fprintf(c.ErrOrStderr(), "made a certificate in %s\n", dir)
		}
	}
	if err != nil {
		return nil, "", err
	}
	return p, dir, nil
}

func certLedger(dir string) (*truststore.Machine, *truststore.Ledger, error) {
	m, err := truststore.Local()
	if err != nil {
		return nil, nil, err
	}
	l, err := truststore.OpenLedger(filepath.Join(dir, "trusted.json"), m)
	return m, l, err
}

func certShowCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "show",
		Short: "Show names, end and fingerprints, and where it is installed",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p, dir, err := certPair(c, file)
			if err != nil {
				return err
			}
			_, l, err := certLedger(dir)
			if err != nil {
				return err
			}
			var names []string
			for _, ip := range p.Certificate.Leaf.IPAddresses {
				names = append(names, ip.String())
			}
			out := c.OutOrStdout()
			fmt.Fprintf(out, "authority:    %s\n", p.Authority.Subject.CommonName)
			fmt.Fprintf(out, "SHA-256:      %s\n", localtls.Fingerprint(p.Authority))
			fmt.Fprintf(out, "certificate:  %s\n", strings.Join(append(slices.Clone(p.Certificate.Leaf.DNSNames), names...), ", "))
			fmt.Fprintf(out, "SHA-256:      %s\n", localtls.Fingerprint(p.Certificate.Leaf))
			fmt.Fprintf(out, "ends:         %s\n", p.NotAfter.Local().Format(time.DateTime))
			if time.Until(p.NotAfter) < localtls.RenewBefore {
				fmt.Fprintln(out, "              renewed when the gateway next runs, or by 'cloudmls cert renew'")
			}
			fmt.Fprintf(out, "file:         %s\n", p.AuthorityFile)
			for _, e := range l.Entries() {
				note := ""
				if !e.Certificate.Equal(p.Authority) {
					note = " (an older one: run 'cloudmls cert install' again)"
				}
				fmt.Fprintf(out, "installed in: %s%s\n", e.Store, note)
			}
			return nil
		},
	}
	configFlag(c, &file, "the gateway's configuration file")
	return c
}

func certExportCommand() *cobra.Command {
	var (
		file, to string
		der      bool
	)
	c := &cobra.Command{
		Use:   "export",
		Short: "Write the authority's certificate for import into a mail client",
		Long: `Writes the certificate that mail clients should trust, in PEM form or with --der in the binary form, to standard output
or a new file. It holds no secret.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			p, _, err := certPair(c, file)
			if err != nil {
				return err
			}
			b := p.AuthorityPEM()
			if der {
				b = p.AuthorityDER()
			}
			if to == "" {
				_, err := c.OutOrStdout().Write(b)
				return err
			}
			if err := writeNew(to, b); err != nil {
				return fmt.Errorf("export certificate: %w", err)
			}
			fmt.Fprintf(c.ErrOrStderr(), "wrote %s (SHA-256 of the certificate %s)\n", to, localtls.Fingerprint(p.Authority))
			return nil
		},
	}
	configFlag(c, &file, "the gateway's configuration file")
	c.Flags().BoolVar(&der, "der", false, "write the binary form")
	c.Flags().StringVarP(&to, "out", "o", "", "file to make, instead of standard output")
	return c
}

// writeNew makes a file that everybody may read. One that is there with the same
// content is fine, with another it stays.
func writeNew(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrExist) {
		if have, readErr := os.ReadFile(name); readErr == nil && slices.Equal(have, b) {
			return nil
		}
		return fmt.Errorf("%s is there and holds something else; remove it, or name another file", name)
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

func certRenewCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "renew",
		Short: "Make a new certificate and authority now",
		Long: `Makes a new certificate with a new authority and puts it in place of the old one; a gateway that is running shows it from
its next connection on. Mail clients have to trust the new authority. The gateway renews by itself 30 days before the
end; this is for a certificate that somebody may have copied.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			dir, err := certFolder(file)
			if err != nil {
				return err
			}
			p, err := localtls.Renew(dir, time.Now())
			if err != nil {
				return err
			}
			out := c.OutOrStdout()
			fmt.Fprintf(out, "mail clients should now trust %s\nSHA-256 %s\nends %s\n",
				p.AuthorityFile, localtls.Fingerprint(p.Authority), p.NotAfter.Local().Format(time.DateTime))
			_, l, err := certLedger(dir)
			if err == nil && len(l.Entries()) > 0 {
				fmt.Fprintln(out, "the old one is still installed: run 'cloudmls cert install' to replace it")
			}
			return err
		},
	}
	configFlag(c, &file, "the gateway's configuration file")
	return c
}
