//go:build !windows

package control

import (
	"errors"
	"syscall"
)

// refused: the socket is there, and nobody listens on it.
func refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }
