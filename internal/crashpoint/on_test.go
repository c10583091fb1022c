//go:build crashpoints

package crashpoint

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestParsePlan(t *testing.T) {
	for _, bad := range []string{"x:", "x:0", "x:-1", "x:y"} {
		if _, err := parsePlan(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if p, err := parsePlan(""); p != nil || err != nil {
		t.Errorf("nothing asked for: %v, %v", p, err)
	}
	p, err := parsePlan("x:2")
	if err != nil {
		t.Fatal(err)
	}
	if got := []bool{p.pass("y"), p.pass("x"), p.pass("x"), p.pass("x")}; got[0] || got[1] || !got[2] || got[3] {
		t.Errorf("passes = %v, want a crash at the second x only", got)
	}
}

// TestHereKills: the process ends by the signal, at the named point only.
func TestHereKills(t *testing.T) {
	if os.Getenv(environment) != "" {
		Here("another")
		os.Stdout.WriteString("before\n")
		Here("wanted")
		os.Stdout.WriteString("after\n")
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestHereKills$")
	cmd.Env = append(os.Environ(), environment+"=wanted")
	out, err := cmd.Output()
	exit, ok := err.(*exec.ExitError)
	if !ok {
		t.Fatalf("the process ended with %v", err)
	}
	if status := exit.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGKILL {
		t.Errorf("the process ended with %v, want SIGKILL", err)
	}
	if s := string(out); !strings.Contains(s, "before") || strings.Contains(s, "after") {
		t.Errorf("it printed %q", s)
	}
}

// TestHook: the hook sees every point, and nothing is killed meanwhile.
func TestHook(t *testing.T) {
	var seen []string
	Hook(func(name string) { seen = append(seen, name) })
	defer Hook(nil)
	Here("one")
	Here("two")
	Hook(nil)
	Here("three")
	if !slices.Equal(seen, []string{"one", "two"}) {
		t.Errorf("the hook saw %q", seen)
	}
}
