// Package e2e runs the program itself against real servers: Dovecot and Postfix
// of the mail lab as providers, swaks, curl and Python as mail clients.
//
// The tests need Debian, root and the packages that test/maillab/install
// installs. Without them they say so and skip; with CLOUDMLS_E2E=require, as in
// CI, that is a failure.
package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// lab is what test/maillab/start wrote into lab.json.
type lab struct {
	Dir       string
	CA        string
	Providers map[string]provider
}

type provider struct {
	Domain string
	Host   string
	IMAP   struct {
		TLSName string `json:"tls_name"`
		TLSPort int    `json:"tls_port"`
	}
	SMTP struct {
		TLSName      string `json:"tls_name"`
		TLSPort      int    `json:"tls_port"`
		StartTLSPort int    `json:"starttls_port"`
	}
	Mail string
	Logs []string
}

// mailLab and program are set once, by TestMain, before any test runs.
var (
	mailLab *lab
	program string
	missing string // why the tests of this package cannot run here
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	missing = whatIsMissing()
	if missing != "" && os.Getenv("CLOUDMLS_E2E") == "require" {
		fmt.Fprintln(os.Stderr, "end-to-end tests cannot run:", missing)
		return 1
	}
	if missing != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := prepare(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = exec.Command("../maillab/stop", mailLab.Dir).Run() }()
	return m.Run()
}

func whatIsMissing() string {
	if os.Getuid() != 0 {
		return "the mail servers of the lab are started by root"
	}
	for _, tool := range []string{"dovecot", "postfix", "swaks", "curl", "openssl", "python3"} {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed: run test/maillab/install"
		}
	}
	return ""
}

func prepare(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil { // the servers do not run as root
		return err
	}
	program = filepath.Join(dir, "cloudmls")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/cloudmls").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	if err := startLab(filepath.Join(dir, "lab")); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(dir, "lab", "lab.json"))
	if err != nil {
		return err
	}
	mailLab = &lab{Dir: filepath.Join(dir, "lab")}
	return json.Unmarshal(b, mailLab)
}

// needLab skips where the lab cannot run, and says why.
func needLab(t *testing.T) {
	t.Helper()
	if missing != "" {
		t.Skip(missing)
	}
}

// startLab starts the lab on the first of several ranges of ports that is free.
func startLab(dir string) error {
	var out []byte
	var err error
	for base := 20000; base < 31000; base += 2000 {
		cmd := exec.Command("../maillab/start", dir)
		cmd.Env = append(os.Environ(), fmt.Sprintf("MAILLAB_BASE=%d", base))
		if out, err = cmd.CombinedOutput(); err == nil {
			return nil
		}
		if !bytes.Contains(out, []byte("is in use")) {
			break
		}
	}
	return fmt.Errorf("start the mail lab: %w\n%s", err, out)
}
