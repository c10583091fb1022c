package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// SocketName is the socket's name in the data folder.
const SocketName = "control.sock"

// dialTimeout bounds connecting: a socket on this machine answers at once.
const dialTimeout = 5 * time.Second

// Listen makes the socket, in a folder that only its owner may enter. It is
// ErrRunning where somebody listens on it; a socket file that was left behind
// is replaced, and any other file is an error. The listener takes connections
// of the same user only; closing it removes the socket.
func Listen(socket string) (net.Listener, error) { return listen(socket, checkPeer) }

// ListenForOperator is Listen for a service that root commands as well: its own
// user may be one that nobody can become.
func ListenForOperator(socket string) (net.Listener, error) { return listen(socket, checkOperator) }

// ConnectAsOperator connects to a listener from ListenForOperator: of the same
// user, or of any if root asks. It is ErrNotRunning if there is none.
func ConnectAsOperator(ctx context.Context, socket string) (net.Conn, error) {
	return dialChecked(ctx, socket, checkService)
}

func listen(socket string, check func(*net.UnixConn) error) (net.Listener, error) {
	if err := checkFolder(filepath.Dir(socket)); err != nil {
		return nil, err
	}
	if err := removeStale(socket); err != nil {
		return nil, err
	}
	name, release, err := shorten(socket)
	if err != nil {
		return nil, err
	}
	defer release()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: name})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	ln.SetUnlinkOnClose(false) // Close looks whether it is still ours
	own, err := guard(socket)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return &listener{UnixListener: ln, socket: socket, own: own, check: check}, nil
}

// guard restricts the socket to its owner.
func guard(socket string) (fs.FileInfo, error) {
	if err := os.Chmod(socket, 0o600); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	own, err := os.Lstat(socket)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return own, nil
}

// checkFolder: the mode of a socket is set only after it exists, and some
// systems do not heed it, so the folder must keep others out.
func checkFolder(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("control socket: %s is not a folder", dir)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return fmt.Errorf("control socket: the folder %s is open to others (mode %04o); run: chmod 700 %s", dir, mode, dir)
	}
	return nil
}

// removeStale removes a socket that nobody listens on.
func removeStale(socket string) error {
	info, err := os.Lstat(socket)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket: %s is there and is no socket; move it away", socket)
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	conn, err := dialSocket(ctx, socket)
	switch {
	case err == nil:
		return errors.Join(ErrRunning, conn.Close())
	case !errors.Is(err, ErrNotRunning):
		return fmt.Errorf("control socket: it is not clear whether a gateway runs: %w", err)
	}
	if err := os.Remove(socket); err != nil {
		return fmt.Errorf("control socket: remove the one that was left behind: %w", err)
	}
	return nil
}

// dialSocket connects, to a listener of the same user only.
func dialSocket(ctx context.Context, socket string) (net.Conn, error) {
	return dialChecked(ctx, socket, checkPeer)
}

func dialChecked(ctx context.Context, socket string, check func(*net.UnixConn) error) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	name, release, err := shorten(socket)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotRunning
	}
	if err != nil {
		return nil, err
	}
	defer release()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", name)
	switch {
	case errors.Is(err, fs.ErrNotExist), refused(err):
		return nil, ErrNotRunning
	case err != nil:
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := check(conn.(*net.UnixConn)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// listener hands out connections of the same user.
type listener struct {
	*net.UnixListener
	socket string
	own    fs.FileInfo
	check  func(*net.UnixConn) error // who is at the other end
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if l.check(conn) == nil {
			return conn, nil
		}
		_ = conn.Close() // a stranger gets no word
	}
}

// Close implements net.Listener. The file goes first, so that whoever starts
// meanwhile finds a live listener or none, never a file that vanishes.
func (l *listener) Close() error {
	var removed error
	if now, err := os.Lstat(l.socket); err == nil && os.SameFile(now, l.own) {
		removed = os.Remove(l.socket)
	}
	return errors.Join(removed, l.UnixListener.Close())
}

// errStranger: another user of this machine is at the other end.
var errStranger = errors.New("control socket: another user of this machine is at the other end; run the command as the user who runs the gateway")
