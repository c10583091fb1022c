package e2e

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestPortInUse: a second gateway on the same ports says so and ends.
func TestPortInUse(t *testing.T) {
	s := newStack(t)
	first := s.addUser("alice", alice)
	second := s.configure("second", "alice", alice)
	text, err := os.ReadFile(second.config)
	if err != nil {
		t.Fatal(err)
	}
	file := s.write("clash.toml", strings.Replace(string(text), second.imap, first.imap, 1))
	ctx, cancel := context.WithTimeout(t.Context(), ioDeadline)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "run", "--config", file).CombinedOutput()
	if err == nil || ctx.Err() != nil || !strings.Contains(string(out), "address already in use") {
		t.Errorf("got %v (%v), want an error that names the address:\n%s", err, ctx.Err(), out)
	}
}
