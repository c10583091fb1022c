//go:build !unix

package mls

import "time"

var benchStart = time.Now()

// processorTime is the time on the wall, where no other is to be had.
func processorTime() time.Duration { return time.Since(benchStart) }
