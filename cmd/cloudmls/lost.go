package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/internal/device"
)

func deviceLost() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "lost [ID...]",
		Short: "Replace all keys, because a device is in wrong hands",
		Long: `For a device that somebody else has and may be able to unlock. It replaces every key of yours: those of the stored
state, your identity, and your part in every conversation; the devices that are named, or without a name all but this one, are
out. It is not done in one step: until it is, groups that it has not reached can still be read with what was stolen. Cut
off, it is finished by the gateway of any of your devices.

First change the password ('cloudmls password') and make another recovery code ('cloudmls recovery-code'): whoever had the
device may have put their own in the place of yours. People who have compared codes with you do so again. The gateway must not
run meanwhile.`,
		RunE: func(c *cobra.Command, args []string) error { return lost(c, file, args) },
	}
	configFlag(c, &file, "the gateway's configuration file")
	return c
}

func lost(c *cobra.Command, file string, ids []string) error {
	g, err := loadGateway(file)
	if err != nil {
		return err
	}
	return alone(c, g, func(_ *device.Device, client *cloudmls.Client) error {
		tell := progress(c)
		if len(ids) == 0 {
			ids = nil // all others are out; an empty list would mean that none is
		}
		o := cloudmls.RotateOptions{Devices: ids, Progress: func(p cloudmls.RotationProgress) {
			tell("%s: %d of %d", p.Stage, p.Done, p.Total)
		}}
		if err := client.Rotate(c.Context(), o); err != nil {
			return fmt.Errorf("%w (what is left is done when a gateway of yours runs)", err)
		}
		_, err := fmt.Fprintln(c.OutOrStdout(), "all keys are new")
		return err
	})
}
