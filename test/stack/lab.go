// Package stack is the whole system for end-to-end tests: the program itself as
// processes (a key server, gateways), the mail lab's Dovecot and Postfix as
// providers, and swaks, curl and Python as mail clients.
//
// A test package declares its lab and starts it in TestMain:
//
//	var lab = &stack.Lab{}
//
//	func TestMain(m *testing.M) { os.Exit(lab.Main(m)) }
//
//	func TestX(t *testing.T) { s := stack.New(t, lab); alice := s.AddUser("alice", stack.Alice) … }
//
// The tests need Debian, root and the packages that test/maillab/install
// installs. Without them they say so and skip; with CLOUDMLS_E2E=require, as in
// CI, that is a failure.
package stack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// People of the lab; each has a mailbox whose password is Password.
const (
	Alice = "alice@a.test"
	Bob   = "bob@a.test"
	Carol = "carol@a.test"
	Dave  = "dave@a.test"
	Erin  = "erin@b.test"
	Frank = "frank@b.test"
	Grace = "grace@b.test"
	Heidi = "heidi@b.test"
)

// Password is the password of an address at its provider.
func Password(address string) string {
	local, _, _ := strings.Cut(address, "@")
	return "secret-" + local
}

// Lab is the two mail providers, as test/maillab/start wrote them into
// lab.json, and the program under test.
type Lab struct {
	Dir       string // the lab's folder
	CA        string // file with the authority that the providers' certificates come from
	Providers map[string]Provider

	Tags    string // build tags of the program; set before Main
	Program string // the cloudmls executable
	Root    string // the module's folder
	missing string // why nothing of this can run here
	claim   net.Listener
}

// Provider is one mail provider of the lab.
type Provider struct {
	Domain string
	Host   string
	IMAP   struct {
		TLSName      string `json:"tls_name"`
		TLSPort      int    `json:"tls_port"`
		StartTLSPort int    `json:"starttls_port"`
	}
	SMTP struct {
		TLSName      string `json:"tls_name"`
		TLSPort      int    `json:"tls_port"`
		StartTLSPort int    `json:"starttls_port"`
	}
	Mail string
	Logs []string
}

// Main starts the lab, runs the tests and ends the lab. tools are programs that
// the tests need beside those of the lab.
func (l *Lab) Main(m *testing.M, tools ...string) int {
	l.missing = whatIsMissing(tools)
	if l.missing != "" && os.Getenv("CLOUDMLS_E2E") == "require" {
		fmt.Fprintln(os.Stderr, "end-to-end tests cannot run:", l.missing)
		return 1
	}
	if l.missing != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := l.prepare(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		_ = exec.Command(l.script("stop"), l.Dir).Run()
		_ = l.claim.Close()
	}()
	return m.Run()
}

func whatIsMissing(tools []string) string {
	if os.Getuid() != 0 {
		return "the mail servers of the lab are started by root"
	}
	for _, tool := range append([]string{"dovecot", "postfix", "swaks", "curl", "openssl", "python3"}, tools...) {
		if _, err := exec.LookPath(tool); err != nil {
			return tool + " is not installed: run test/maillab/install and, for Thunderbird, test/tbdriver/install"
		}
	}
	return ""
}

func (l *Lab) prepare(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil { // the servers do not run as root
		return err
	}
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("find the module: %w", err)
	}
	l.Root = filepath.Dir(strings.TrimSpace(string(out)))
	l.Program = filepath.Join(dir, "cloudmls")
	build := exec.Command("go", "build", "-tags", l.Tags, "-o", l.Program, "./cmd/cloudmls")
	build.Dir = l.Root
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	if err := l.start(filepath.Join(dir, "lab")); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(l.Dir, "lab.json"))
	if err != nil {
		return err
	}
	lab := l.Dir
	err = json.Unmarshal(b, l)
	l.Dir = lab
	return err
}

func (l *Lab) script(name string) string { return filepath.Join(l.Root, "test", "maillab", name) }

// start starts the lab on the first range of ports that is free. Several test
// packages do so at once: whoever listens on the range's last port has it.
func (l *Lab) start(dir string) error {
	err := errors.New("no range of ports is free")
	for base := 20000; base < 31000; base += 2000 {
		claim, taken := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+1999))
		if taken != nil {
			continue
		}
		cmd := exec.Command(l.script("start"), dir)
		cmd.Env = append(os.Environ(), fmt.Sprintf("MAILLAB_BASE=%d", base))
		var out []byte
		if out, err = cmd.CombinedOutput(); err == nil {
			l.Dir, l.claim = dir, claim
			return nil
		}
		_ = claim.Close()
		err = fmt.Errorf("%w\n%s", err, out)
		if !bytes.Contains(out, []byte("is in use")) {
			break
		}
	}
	return fmt.Errorf("start the mail lab: %w", err)
}

// Need skips where the lab cannot run, and says why.
func (l *Lab) Need(t testing.TB) {
	t.Helper()
	if l.missing != "" {
		t.Skip(l.missing)
	}
}

// Of is the provider of an address.
func (l *Lab) Of(t testing.TB, address string) Provider {
	t.Helper()
	for _, p := range l.Providers {
		if strings.HasSuffix(address, "@"+p.Domain) {
			return p
		}
	}
	t.Fatalf("no provider for %s", address)
	return Provider{}
}

// Folders are all places where the providers keep mail, queues and logs.
func (l *Lab) Folders() []string {
	var all []string
	for name := range l.Providers {
		all = append(all, filepath.Join(l.Dir, name))
	}
	return all
}

// Fault injects a fault of test/maillab/faults, such as "pause a imap".
func (l *Lab) Fault(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command(l.script("faults"), append([]string{l.Dir}, args...)...).CombinedOutput(); err != nil {
		t.Fatalf("fault %v: %v\n%s", args, err, out)
	}
}
