package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnits has systemd itself read the units.
func TestUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CLOUDMLS_E2E") == "require" {
			t.Fatal("systemd-analyze is missing: run test/install")
		}
		t.Skip("systemd-analyze is not installed: run test/install")
	}
	// All are there before the first is read: a socket's unit wants its service's.
	dir := t.TempDir()
	files := map[string]string{}
	for kind, name := range unitFiles {
		text, err := unit(kind)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "@PROGRAM@") {
			t.Errorf("%s: the program's path is missing", name)
		}
		files[kind] = filepath.Join(dir, strings.Replace(name, "@.", "@alice.", 1))
		if err := os.WriteFile(files[kind], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for kind, file := range files {
		args := []string{"verify", "--man=no", file}
		if kind == "user" {
			args = append([]string{"--user"}, args...)
		}
		cmd := exec.Command("systemd-analyze", args...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil || strings.Contains(string(out), filepath.Base(file)) {
			t.Errorf("%s: %v\n%s", filepath.Base(file), err, out)
		}
	}
}
