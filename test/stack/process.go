package stack

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// Deadline bounds every wait for a server in these tests.
const Deadline = 30 * time.Second

// Process is a running cloudmls command.
type Process struct {
	// Env is added to the environment at the next Start.
	Env []string

	t       testing.TB
	program string
	args    []string
	temp    string // its folder for temporary files, lies in the stack's
	cmd     *exec.Cmd
	log     string // file with everything it printed
	done    chan struct{}
}

// Start runs the program and waits until it printed a line with the word.
func (p *Process) Start(ready string) {
	p.t.Helper()
	if err := p.TryStart(ready); err != nil {
		p.t.Fatal(err)
	}
}

// TryStart is Start for a program that may fail.
func (p *Process) TryStart(ready string) error {
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p.cmd = exec.Command(p.program, p.args...)
	p.cmd.Env = append(append(os.Environ(), "TMPDIR="+p.temp), p.Env...)
	p.cmd.Stderr = f
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	seen := make(chan struct{})
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		defer func() { _ = f.Close() }()
		var once sync.Once
		for s := bufio.NewScanner(stdout); s.Scan(); {
			_, _ = fmt.Fprintln(f, s.Text())
			if strings.Contains(s.Text(), ready) {
				once.Do(func() { close(seen) })
			}
		}
		_, _ = io.Copy(io.Discard, stdout)
		_ = p.cmd.Wait()
	}()
	select {
	case <-seen:
		return nil
	case <-p.done:
		return fmt.Errorf("cloudmls %s ended early:\n%s", strings.Join(p.args, " "), p.LogText())
	case <-time.After(Deadline):
		p.Kill()
		return fmt.Errorf("cloudmls %s is not ready:\n%s", strings.Join(p.args, " "), p.LogText())
	}
}

// LogText is all that the process has printed, over all its starts.
func (p *Process) LogText() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

// Temp is the folder where the process makes temporary files. It lies in the
// stack's folder, so that a canary search there sees what a kill leaves behind.
func (p *Process) Temp() string { return p.temp }

// PID is the number of the running process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the process.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Stop asks the process to end and waits for it.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
	case <-time.After(Deadline):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Kill ends the process as a power cut would.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// FreeAddr is a free address below the range from which the system takes ports
// for outgoing connections, so that none of these gets in between.
func FreeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(6000)))
		if err != nil {
			continue
		}
		defer func() { _ = ln.Close() }()
		return ln.Addr().String()
	}
	t.Fatal("no free port")
	return ""
}
