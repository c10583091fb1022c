package control

import (
	"errors"
	"syscall"
)

// wsaConnRefused is WSAECONNREFUSED of Winsock.
const wsaConnRefused = syscall.Errno(10061)

// refused: the socket is there, and nobody listens on it.
func refused(err error) bool { return errors.Is(err, wsaConnRefused) }
