package e2e

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// TestPortInUse: a second gateway on the same ports says so and ends.
func TestPortInUse(t *testing.T) {
	s := stack.New(t, lab)
	first := s.AddUser("alice", stack.Alice)
	second := s.Configure("second", "alice", stack.Alice)
	text, err := os.ReadFile(second.Config)
	if err != nil {
		t.Fatal(err)
	}
	file := s.Write("clash.toml", strings.Replace(string(text), second.IMAP, first.IMAP, 1))
	ctx, cancel := context.WithTimeout(t.Context(), stack.Deadline)
	defer cancel()
	out, err := exec.CommandContext(ctx, lab.Program, "run", "--config", file).CombinedOutput()
	if err == nil || ctx.Err() != nil || !strings.Contains(string(out), "address already in use") {
		t.Errorf("got %v (%v), want an error that names the address:\n%s", err, ctx.Err(), out)
	}
}
