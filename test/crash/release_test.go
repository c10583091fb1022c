package crash

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/stack"
)

// TestReleaseHasNoCrashPoints: the program as it is released cannot be told to
// crash; the one under test here can.
func TestReleaseHasNoCrashPoints(t *testing.T) {
	lab.Need(t)
	release := filepath.Join(t.TempDir(), "cloudmls")
	cmd := exec.Command("go", "build", "-o", release, "./cmd/cloudmls")
	cmd.Dir = lab.Root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for program, want := range map[string]bool{release: false, lab.Program: true} {
		b, err := os.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte("CLOUDMLS_CRASHPOINT")) != want {
			t.Errorf("%s can crash on demand: %v, want %v", program, !want, want)
		}
	}
}

// TestOneGatewayADataFolder: a second gateway on the same data folder ends at
// once, says why, and disturbs nothing.
func TestOneGatewayADataFolder(t *testing.T) {
	lab.Need(t)
	b := newBench(t)
	b.sent(t, stack.Erin)
	out, err := exec.Command(lab.Program, "run", "--config", b.a.Config).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "running already") {
		t.Errorf("the second gateway: %v\n%s", err, out)
	}
	b.sent(t, stack.Erin)
	b.whole(t)
}
