package control

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// maxPath is the longest name of a socket: sun_path without its NUL.
const maxPath = 107

// shorten gives a name for the socket that is short enough. A long one is
// reached through the folder's descriptor, which release closes.
func shorten(socket string) (name string, release func(), err error) {
	if len(socket) <= maxPath {
		return socket, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(socket))
	if err != nil {
		return "", nil, fmt.Errorf("control socket: %w", err)
	}
	name = fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(socket))
	if len(name) > maxPath {
		_ = dir.Close() // it was only opened
		return "", nil, fmt.Errorf("control socket: the name %s is too long", filepath.Base(socket))
	}
	return name, func() { _ = dir.Close() }, nil // it was only opened
}

// checkPeer lets the same user in.
func checkPeer(conn *net.UnixConn) error { return checkWith(conn, checkUser) }

// checkOperator lets the same user and root in.
func checkOperator(conn *net.UnixConn) error {
	return checkWith(conn, func(uid int) error {
		if uid == 0 {
			return nil
		}
		return checkUser(uid)
	})
}

// checkService is what the other side asks: root may talk to any service.
func checkService(conn *net.UnixConn) error {
	return checkWith(conn, func(uid int) error { return checkServiceUser(os.Geteuid(), uid) })
}

func checkServiceUser(own, uid int) error {
	if own == 0 || uid == own {
		return nil
	}
	return errStranger
}

// checkWith asks the kernel who is at the other end (SO_PEERCRED, unix(7)).
func checkWith(conn *net.UnixConn, check func(uid int) error) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	var peer *syscall.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) {
		peer, asked = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if asked != nil {
		return fmt.Errorf("control socket: %w", asked)
	}
	return check(int(peer.Uid))
}

func checkUser(uid int) error {
	if uid != os.Geteuid() {
		return errStranger
	}
	return nil
}
