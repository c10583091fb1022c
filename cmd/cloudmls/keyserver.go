package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/systemd"
	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/admin"
	"github.com/cloudmls/gateway/keyserver/monitor"
)

func keyserverCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "keyserver",
		Short: "Run a key server, on one file or on PostgreSQL",
		Long: `Runs the key server of a configuration file ('cloudmls config reference keyserver' prints one, every key explained)
until it is interrupted. It keeps KeyPackages, handshake messages and the users' sealed state, and can read neither
mail nor state. Its own keys lie in a file of their own beside the database: keep a copy of both, apart.
/healthz and /readyz tell a supervisor how it is.

Exit code: 0 it was ended, 1 it failed and may work if started again, 3 the configuration or a file needs a person.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return runKeyServer(c, file) },
	}
	c.Flags().StringVarP(&file, "config", "c", "", "the key server's configuration file (required)")
	c.AddCommand(keyServerAdmin())
	c.PreRunE = func(*cobra.Command, []string) error {
		if file == "" {
			return misuse{errors.New("--config is missing")}
		}
		return nil
	}
	return c
}

func runKeyServer(c *cobra.Command, file string) (err error) {
	f, err := config.LoadKeyServer(file)
	if err != nil {
		return configError{err}
	}
	defer keyserver.LessCollecting(keyserver.GarbageRoom)()
	log := newLogger(c.ErrOrStderr(), f.Log)
	o, err := keyServerOptions(f, log) // the keys come first: no database without them
	if err != nil {
		return needsPerson(err)
	}
	store, err := openKeyStore(c.Context(), f, log)
	if err != nil {
		return needsPerson(err)
	}
	defer closing(&err, "database", store.Close)
	metrics := monitor.New(version())
	o.Store = metrics.Store(store)
	s, err := keyserver.New(*o)
	if err != nil {
		return err
	}
	defer closing(&err, "key server", s.Close)
	health := monitor.NewHealth(store, log)
	all, err := keyServerListeners(c.Context(), f, log, keyServerHandler(metrics.Count(s), health), metricsHandler(metrics), s.Listener)
	if err != nil {
		return needsPerson(err)
	}
	stopAdmin, err := serveOperator(c.Context(), f, &admin.Service{Server: s, Store: store}, log)
	if err != nil {
		return errors.Join(err, closeAll(all))
	}
	defer stopAdmin()
	fmt.Fprintf(c.OutOrStdout(), "key server %s "+keyServerReady+" %s\n", f.Origin, all[0].listener.Addr())
	if err := systemd.Ready("serving " + f.Origin); err != nil {
		log.Warn("systemd does not listen", "err", err)
	}
	return serveAll(c.Context(), all, func() error {
		health.Stopping()
		return errors.Join(systemd.Stopping(), s.Close())
	})
}

// sameKeys refuses to make new keys for a database that was kept under others:
// it would answer nobody's password any more.
func sameKeys(data, keys string) error {
	if _, err := os.Stat(keys); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(data); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return configError{fmt.Errorf("the server's keys %s are missing, but the database %s is there: restore them from the copy, or name them with key_file", keys, data)}
}
