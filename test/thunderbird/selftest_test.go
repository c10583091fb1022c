package thunderbird

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDriver runs the driver's own test straight against the providers, past
// any gateway: what fails in the other tests but not here is the gateway's.
func TestDriver(t *testing.T) {
	lab.Need(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", filepath.Join(lab.Root, "test", "tbdriver", "selftest.mjs"), filepath.Join(lab.Dir, "lab.json"), t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(" 0 failed")) {
		t.Errorf("selftest: %v\n%s", err, out)
	}
}
