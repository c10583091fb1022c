package keyserver

import (
	"bufio"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/test/ports"
)

// cluster is a number of server processes on one store. Each comes back at the
// same address after it was killed.
type cluster struct {
	t     *testing.T
	env   string
	slots []*slot
}

type slot struct {
	address string
	client  *keyclient.Client

	mu  sync.Mutex
	cmd *exec.Cmd
	in  io.Closer
}

func newCluster(t *testing.T, processes int, env string) *cluster {
	t.Helper()
	c := &cluster{t: t, env: env}
	free := ports.New()
	for range processes {
		address, err := free.Address()
		if err != nil {
			t.Fatal(err)
		}
		s := &slot{address: address}
		if s.client, err = keyclient.New(keyclient.Options{URL: "http://" + s.address}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.client.Close)
		c.slots = append(c.slots, s)
		if err := c.start(s); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for _, s := range c.slots {
			c.kill(s)
		}
	})
	return c
}

func (c *cluster) start(s *slot) error {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envListen+"="+s.address, c.env)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.mu.Lock()
	s.cmd, s.in = cmd, in
	s.mu.Unlock()
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		return errors.Join(errors.New("server process did not start"), err)
	}
	return nil
}

// kill is kill -9.
func (c *cluster) kill(s *slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Error(err)
	}
	if err := s.cmd.Wait(); err == nil {
		c.t.Error("a server ended by itself")
	}
	s.cmd = nil
}

func (c *cluster) any(r *rand.Rand) *keyclient.Client { return c.slots[r.IntN(len(c.slots))].client }
