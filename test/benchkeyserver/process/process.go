// Package process runs a key server in a process of its own, so that its memory
// and its descriptors can be told from those of its clients. The process is the
// test binary once more:
//
//	func TestMain(m *testing.M) {
//		process.MaybeServe()
//		os.Exit(m.Run())
//	}
//
// The parent asks over the child's standard input, one line a question, and
// reads one line of JSON.
package process

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/cloudmls/gateway/keyserver"
)

const environment = "KEYSERVER_PROCESS"

// Config of a server. One of File and DSN says where its store is, or Exchange
// that it has none: it answers with octets, see Process.Answer, and does no work.
type Config struct {
	Exchange bool
	File     string
	DSN      string
	MaxConns int // to PostgreSQL; zero: the store's default
	Limits   keyserver.Limits
	// Profile, if set, gets a CPU profile from Process.StartProfile to
	// Process.StopProfile.
	Profile string
}

// Memory of the server, after a garbage collection.
type Memory struct {
	Heap       int64 // octets in use
	Stack      int64
	Sys        int64 // taken from the system
	Goroutines int
	CPU        time.Duration // user and system, since the start
}

// Total is what connections and users make grow.
func (m Memory) Total() int64 { return m.Heap + m.Stack }

// Process is a running server. Its methods are for one goroutine at a time.
type Process struct {
	Address string // host:port
	// Ready is how long it took from the start of the process until it listened,
	// and Open how much of that was spent opening the store.
	Ready, Open time.Duration

	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

type hello struct {
	Address string
	Open    time.Duration
	Err     string
}

// Start starts a server; the caller stops it.
func Start(c Config) (*Process, error) {
	b, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), environment+"="+string(b))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	begin := time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	var h hello
	if err := p.receive(&h); err != nil || h.Err != "" {
		return nil, errors.Join(fmt.Errorf("start key server: %s", h.Err), err, p.Stop())
	}
	p.Address, p.Open, p.Ready = h.Address, h.Open, time.Since(begin)
	return p, nil
}

func (p *Process) receive(v any) error {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

func (p *Process) ask(question string, answer any) error {
	if _, err := fmt.Fprintln(p.in, question); err != nil {
		return err
	}
	return p.receive(answer)
}

// Memory measures.
func (p *Process) Memory() (m Memory, err error) {
	if err = p.ask("memory", &m); err != nil {
		err = fmt.Errorf("memory of key server: %w", err)
	}
	return m, err
}

// Peak is what the process has taken from the system, without a collection first.
func (p *Process) Peak() (m Memory, err error) {
	if err = p.ask("peak", &m); err != nil {
		err = fmt.Errorf("memory of key server: %w", err)
	}
	return m, err
}

// Answer sets the octets of an answer of a server with Config.Exchange.
func (p *Process) Answer(size int) error {
	return p.order(fmt.Sprintf("answer %d", size))
}

// StartProfile and StopProfile write Config.Profile.
func (p *Process) StartProfile() error { return p.order("profile") }

// StopProfile ends what StartProfile began.
func (p *Process) StopProfile() error { return p.order("profiled") }

func (p *Process) order(question string) error {
	var failed string
	if err := p.ask(question, &failed); err != nil {
		return err
	}
	if failed != "" {
		return errors.New(failed)
	}
	return nil
}

// Stop ends the process.
func (p *Process) Stop() error {
	err := p.in.Close() // which ends it
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case ended := <-done:
		return errors.Join(err, ended)
	case <-time.After(30 * time.Second):
		return errors.Join(err, errors.New("key server does not end"), p.cmd.Process.Kill(), <-done)
	}
}
