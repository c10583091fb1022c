package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/keyserver/admin"
	"github.com/cloudmls/gateway/keyserver/boltstore"
)

// onFile refuses what is done by the database's own means.
func onFile(f *config.KeyServerFile) error {
	if f.Store.Kind != "file" {
		return admin.ErrNoBackup
	}
	return nil
}

// storeIsThere keeps a command from making a database where there is none.
func storeIsThere(f *config.KeyServerFile) error {
	if f.Store.Kind != "file" {
		return nil
	}
	_, err := os.Stat(f.DataFile)
	if errors.Is(err, fs.ErrNotExist) {
		return configError{fmt.Errorf("there is no database %s: the key server has not run yet, or data_file names another one", f.DataFile)}
	}
	return err
}

func adminBackup() *cobra.Command {
	return adminCommand("backup FILE", "Write a copy of the database into a new file, while the server serves", cobra.ExactArgs(1), func(c *cobra.Command, o admin.Operator, args []string) error {
		fmt.Fprintln(c.ErrOrStderr(), "copying the database ...")
		if err := intoNewFile(args[0], func(w io.Writer) error { return o.Backup(c.Context(), w) }); err != nil {
			return err
		}
		fmt.Fprintf(c.OutOrStdout(), "the database as it is now is in %s; the server's keys are not in it, keep a copy of them apart\n", args[0])
		return nil
	})
}

func adminRestore() *cobra.Command {
	return &cobra.Command{Use: "restore FILE", Short: "Make the database of a backup", Args: cobra.ExactArgs(1),
		Long: `Checks a backup and makes the database of it. The server must not run, and a database that is there is not overwritten:
move it away first. Clients notice that the server went back in time, and say so; what happened after the backup is in
their own stores only.`,
		RunE: func(c *cobra.Command, args []string) error {
			f, err := adminConfig(c)
			if err != nil {
				return err
			}
			if err := onFile(f); err != nil {
				return err
			}
			if err := makeDir(filepath.Dir(f.DataFile)); err != nil {
				return err
			}
			fmt.Fprintln(c.ErrOrStderr(), "checking the backup ...")
			if err := boltstore.Restore(c.Context(), args[0], f.DataFile); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s is the database of the backup; its keys belong into %s\n", f.DataFile, f.KeyFile)
			return nil
		}}
}

func adminCompact() *cobra.Command {
	return &cobra.Command{Use: "compact", Short: "Rewrite the database without the room that was freed; the server must not run", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f, err := adminConfig(c)
			if err != nil {
				return err
			}
			if err := errors.Join(onFile(f), storeIsThere(f)); err != nil {
				return err
			}
			fmt.Fprintln(c.ErrOrStderr(), "rewriting the database ...")
			before, after, err := boltstore.Compact(f.DataFile)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s has %d bytes, %d before\n", f.DataFile, after, before)
			return nil
		}}
}

// intoNewFile writes a file that only its owner reads; it gets its name when it
// is whole and on disk.
func intoNewFile(name string, write func(io.Writer) error) (err error) {
	if _, err := os.Lstat(name); err == nil {
		return fmt.Errorf("%s is there already; move it away, or name another file", name)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), name); err != nil { // unlike a rename it replaces nothing
		return err
	}
	return os.Remove(f.Name())
}

// localClient speaks to the server on this machine: its certificate is for the
// name in its origin, not for this address.
func localClient(f *config.KeyServerFile) (client *http.Client, scheme string) {
	if f.TLSCert == "" && !f.ACME.Enabled {
		return http.DefaultClient, "http"
	}
	name := ""
	if origin, err := url.Parse(f.Origin); err == nil {
		name = origin.Hostname()
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		ServerName: name, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, // asks whether it lives, and believes nothing else
	}}}, "https"
}
