package secret

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// In a process of its own, because what HardenProcess does cannot be undone.
func TestHardenProcess(t *testing.T) {
	if os.Getenv("HARDEN_CHILD") == "" {
		exe, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		child := exec.Command(exe, "-test.run=^TestHardenProcess$", "-test.v")
		child.Env = append(os.Environ(), "HARDEN_CHILD=1")
		if out, err := child.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}); err != nil {
		t.Logf("could not raise the limit first: %v", err)
	}
	dumpable := func() int {
		n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if dumpable() == 0 {
		t.Fatal("the process is not dumpable before the call: the test shows nothing")
	}
	if err := HardenProcess(); err != nil {
		t.Fatal(err)
	}
	if n := dumpable(); n != 0 {
		t.Errorf("PR_GET_DUMPABLE = %d", n)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		t.Errorf("core limit %+v, %v", limit, err)
	}
	if _, err := os.Executable(); err != nil {
		t.Errorf("the process no longer finds itself: %v", err)
	}
}
