//go:build unix

package mls

import (
	"syscall"
	"time"
)

// processorTime is what the process has used so far. Other than the time on
// the wall it does not count what else the machine does.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
