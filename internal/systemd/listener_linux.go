package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
)

// firstPassed is the number of the first socket that systemd passes on.
const firstPassed = 3

// Listener returns the socket that systemd listens on for this service
// (sd_listen_fds(3)), nil where there is none. Such a socket outlives the
// process: who connects during a restart waits instead of being refused. It
// can be asked once; processes that this one starts do not see it.
func Listener() (net.Listener, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	if pid != strconv.Itoa(os.Getpid()) || count == "" {
		return nil, nil
	}
	var err error
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		err = errors.Join(err, os.Unsetenv(name))
	}
	if err != nil {
		return nil, err
	}
	if count != "1" {
		return nil, fmt.Errorf("systemd passes %s sockets, not one", count)
	}
	f := os.NewFile(firstPassed, "socket of systemd")
	ln, err := net.FileListener(f) // a copy, closed on exec
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("the socket of systemd: %w", err)
	}
	return ln, nil
}
