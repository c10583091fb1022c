package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/cloudmls/gateway/config"
)

// keyServerReady is in the line that the key server prints when it serves.
const keyServerReady = "listens on"

// readyTime is how long the key server may take to start.
const readyTime = 30 * time.Second

// keyServerProcess is the key server beside the gateway: a process of its own,
// because it must not be able to see what the gateway holds.
type keyServerProcess struct {
	file string
	log  *slog.Logger

	stop context.CancelFunc
	done chan struct{}
}

// localKeyServer starts the key server that the configuration names as local,
// unless it runs already. The function ends what was started.
func localKeyServer(c *cobra.Command, g *config.Gateway, log *slog.Logger) (stop func(), err error) {
	if g.KeyServer.Local == "" {
		return func() {}, nil
	}
	p, err := startKeyServer(c.Context(), g.KeyServer.Local, log)
	if err != nil {
		return nil, err
	}
	return p.end, nil
}

// startKeyServer returns when the key server serves. It is started again
// whenever it ends by itself.
func startKeyServer(ctx context.Context, file string, log *slog.Logger) (*keyServerProcess, error) {
	f, err := config.LoadKeyServer(file)
	if err != nil {
		return nil, configError{err}
	}
	if listening(ctx, f.Listen) {
		if !inUse(f.DataFile) {
			return nil, configError{fmt.Errorf("another program listens on %s, where the local key server should (another person's on this machine?): end it, or choose another port for listen and origin in %s, and url in the gateway's configuration", f.Listen, file)}
		}
		log.Info("the local key server runs already", "listen", f.Listen)
		return &keyServerProcess{stop: func() {}, done: closed()}, nil
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &keyServerProcess{file: file, log: log, stop: stop, done: make(chan struct{})}
	first := make(chan error, 1)
	go p.keep(run, first)
	select {
	case err := <-first:
		if err != nil {
			p.end()
			return nil, fmt.Errorf("local key server: %w", err)
		}
		return p, nil
	case <-ctx.Done():
		p.end()
		return nil, ctx.Err()
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// end stops the process and waits for it.
func (p *keyServerProcess) end() {
	p.stop()
	<-p.done
}

// keep runs the process until ctx ends; first hears whether it came up.
func (p *keyServerProcess) keep(ctx context.Context, first chan<- error) {
	defer close(p.done)
	runtime.LockOSThread() // the child is to die with its parent, which for the system is a thread
	var once sync.Once
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		began := time.Now()
		err := p.once(ctx, func() { once.Do(func() { first <- nil }) })
		if ctx.Err() != nil {
			return
		}
		failed := false
		once.Do(func() {
			first <- err
			failed = true
		})
		if failed {
			return
		}
		if time.Since(began) > time.Minute {
			wait = time.Second
		}
		p.log.Error("the local key server ended; it is started again", "err", err, "in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// once runs the process until it ends.
func (p *keyServerProcess) once(ctx context.Context, ready func()) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "keyserver", "--config", p.file)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopTime + 5*time.Second
	cmd.Env = childEnvironment(os.Environ())
	cmd.SysProcAttr = childAttributes()
	var said strings.Builder
	cmd.Stderr = io.MultiWriter(os.Stderr, limited{&said})
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	late := time.AfterFunc(readyTime, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	for s := bufio.NewScanner(out); s.Scan(); {
		if strings.Contains(s.Text(), keyServerReady) {
			late.Stop()
			ready()
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, lastLine(said.String()))
	}
	return errors.New("it ended")
}

// childEnvironment is what of the gateway's environment the key server gets: it
// must not see the gateway's secrets, which may come from there, nor its
// credentials and its place in systemd.
func childEnvironment(env []string) []string {
	out := []string{}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		switch strings.ToUpper(name) {
		case "PATH", "HOME", "USERPROFILE", "TMPDIR", "TMP", "TEMP", "TZ", "LANG", "LC_ALL", "SYSTEMROOT", "JOURNAL_STREAM",
			"GOMAXPROCS", "GOMEMLIMIT", "GODEBUG", "GOTRACEBACK", "GOCOVERDIR":
			out = append(out, e)
		}
	}
	return out
}

// limited keeps the beginning of what is written to it.
type limited struct{ b *strings.Builder }

func (l limited) Write(p []byte) (int, error) {
	if l.b.Len() < 16<<10 {
		l.b.Write(p)
	}
	return len(p), nil
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// inUse reports whether a process has the database open, as a key server does
// while it serves. It tells our own key server from a stranger on its port.
func inUse(dataFile string) bool {
	if _, err := os.Stat(dataFile); err != nil {
		return false
	}
	db, err := bbolt.Open(dataFile, 0o600, &bbolt.Options{Timeout: 50 * time.Millisecond, ReadOnly: true})
	if err == nil {
		_ = db.Close() // nothing was read or written
	}
	return errors.Is(err, bbolterrors.ErrTimeout)
}

// listening reports whether somebody serves on an address.
func listening(ctx context.Context, addr string) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was said on it
	return true
}
