//go:build !unix && !windows

package outbox

import "io"

type noLock struct{}

func (noLock) Close() error { return nil }

// lock does nothing where the system has no locks that end with the process.
func lock(string) (io.Closer, error) { return noLock{}, nil }
