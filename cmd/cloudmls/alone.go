package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/config"
	"github.com/cloudmls/gateway/internal/control"
	"github.com/cloudmls/gateway/internal/device"
)

// errRunning is the refusal of what needs the device for itself.
var errRunning = errors.New("the gateway runs; end it first (systemctl --user stop cloudmls, or Ctrl-C where it was started)")

// notRunning refuses while the gateway of a configuration runs: what follows has
// the device for itself.
func notRunning(c *cobra.Command, g *config.Gateway) error {
	running, err := control.Dial(c.Context(), controlSocket(g))
	if err == nil {
		return errors.Join(errRunning, running.Close())
	}
	if !errors.Is(err, control.ErrNotRunning) {
		return err
	}
	return nil
}

// alone runs work on the device of a configuration, in this process, with the
// local key server if there is one. The gateway must not run.
func alone(c *cobra.Command, g *config.Gateway, work func(*device.Device, *cloudmls.Client) error) (err error) {
	if err := notRunning(c, g); err != nil {
		return err
	}
	log := newLogger(c.ErrOrStderr(), g.Log)
	stopKeyServer, err := localKeyServer(c, g, log)
	if err != nil {
		return err
	}
	defer stopKeyServer()
	d, err := device.Open(g, device.Options{Passphrase: passphrase(c, g), Logger: log})
	if err != nil {
		return err
	}
	defer closing(&err, "local store", d.Close)
	client, err := d.Resume(c.Context())
	if err != nil {
		return fmt.Errorf("this device is not signed in: %w (run 'cloudmls setup' or 'cloudmls run')", err)
	}
	defer closing(&err, "client", client.Close)
	return work(d, client)
}
