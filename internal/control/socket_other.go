//go:build !linux

package control

import (
	"fmt"
	"net"
)

// maxPath is the longest name of a socket on the BSDs and on macOS, the
// shortest there is.
const maxPath = 103

func shorten(socket string) (name string, release func(), err error) {
	if len(socket) > maxPath {
		return "", nil, fmt.Errorf("control socket: its name %s has %d octets, and this system takes %d: choose a shorter data_dir", socket, len(socket), maxPath)
	}
	return socket, func() {}, nil
}

// checkPeer relies on the folder, which only its owner may enter.
func checkPeer(*net.UnixConn) error { return nil }

func checkOperator(*net.UnixConn) error { return nil }

func checkService(*net.UnixConn) error { return nil }
