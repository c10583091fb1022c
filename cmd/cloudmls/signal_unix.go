//go:build unix

package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// reloadOnSignal reads the configuration again at each SIGHUP.
func (r *running) reloadOnSignal(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
		}
		if _, err := r.reload(ctx); err != nil {
			r.log.Error("the configuration was not taken up; going on with the one before", "err", err)
		}
	}
}
