package stack

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Stack is a key server and gateways, each a process of its own.
type Stack struct {
	Lab       *Lab
	Dir       string // everything of the stack: configurations, data, logs
	KeyURL    string
	KeyServer *Process
	Gateways  map[string]*Gateway

	t testing.TB
}

// Gateway is one user's, with one or more accounts.
type Gateway struct {
	*Process
	User       string
	Dir        string // its data folder is Dir/data
	Config     string // its configuration file
	IMAP, SMTP string // its listeners, host:port
	CA         string // file with the certificate that mail clients trust
	Password   string // of the mail clients

	stack *Stack
}

// KeyServerReady and GatewayReady are in the line that a process prints when it serves.
const (
	KeyServerReady = "listens on"
	GatewayReady   = "ready:"
)

// New starts a key server. It and all gateways end with the test.
func New(t testing.TB, l *Lab) *Stack {
	t.Helper()
	l.Need(t)
	s := &Stack{Lab: l, Dir: t.TempDir(), Gateways: map[string]*Gateway{}, t: t}
	addr := FreeAddr(t)
	s.KeyURL = "http://" + addr
	file := s.Write("keyserver.toml", fmt.Sprintf("listen = %q\norigin = %q\ndata_file = %q\n",
		addr, s.KeyURL, filepath.Join(s.Dir, "keyserver", "data.db")))
	s.KeyServer = s.process(filepath.Join(s.Dir, "keyserver.log"), "keyserver", "--config", file)
	s.KeyServer.Start(KeyServerReady)
	t.Cleanup(s.KeyServer.Stop)
	return s
}

func (s *Stack) process(log string, args ...string) *Process {
	s.t.Helper()
	temp, err := os.MkdirTemp(s.Dir, "tmp-")
	if err != nil {
		s.t.Fatal(err)
	}
	return &Process{t: s.t, program: s.Lab.Program, args: args, log: log, temp: temp}
}

// Write writes a file into the stack's folder and returns its path.
func (s *Stack) Write(name, text string) string {
	s.t.Helper()
	file := filepath.Join(s.Dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// Command runs a cloudmls command that must succeed and returns what it printed.
func (s *Stack) Command(args ...string) string {
	s.t.Helper()
	out, err := exec.Command(s.Lab.Program, args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("cloudmls %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// AddUser registers a user with accounts of the lab and starts a gateway.
func (s *Stack) AddUser(user string, addresses ...string) *Gateway {
	s.t.Helper()
	g := s.Configure(user, user, addresses...)
	g.Register()
	g.Run()
	return g
}

// AddDevice starts a further gateway of a user, with nothing but the password.
func (s *Stack) AddDevice(name, user string, addresses ...string) *Gateway {
	s.t.Helper()
	g := s.Configure(name, user, addresses...)
	g.Run()
	return g
}

// Register creates the gateway's user at the key server.
func (g *Gateway) Register() {
	g.t.Helper()
	if out := g.stack.Command("register", "--config", g.Config); !strings.Contains(out, "recovery code: ") {
		g.t.Fatalf("register %s printed no recovery code:\n%s", g.User, out)
	}
}

// Run starts the gateway; it ends with the test.
func (g *Gateway) Run() {
	g.t.Helper()
	g.Start(GatewayReady)
	g.t.Cleanup(g.Stop)
}

var passwordLine = regexp.MustCompile(`password: (\S+)[\s\S]*password_sha256 = "([0-9a-f]{64})"`)

// Configure writes a gateway's configuration and starts nothing.
func (s *Stack) Configure(name, user string, addresses ...string) *Gateway {
	s.t.Helper()
	g := &Gateway{User: user, Dir: filepath.Join(s.Dir, name), IMAP: FreeAddr(s.t), SMTP: FreeAddr(s.t), stack: s}
	if err := os.MkdirAll(g.Dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	out, err := exec.Command(s.Lab.Program, "client", "new", "test").Output()
	if err != nil {
		s.t.Fatalf("client new: %v", err)
	}
	m := passwordLine.FindSubmatch(out)
	if m == nil {
		s.t.Fatalf("client new printed %s", out)
	}
	g.Password = string(m[1])
	g.CA = filepath.Join(g.Dir, "data", "tls", "ca.pem")
	var b bytes.Buffer
	fmt.Fprintf(&b, "data_dir = %q\n[listen]\nimap = %q\nsmtp = %q\n", filepath.Join(g.Dir, "data"), g.IMAP, g.SMTP)
	fmt.Fprintf(&b, "[keyserver]\nurl = %q\n", s.KeyURL)
	fmt.Fprintf(&b, "[user]\nname = %q\npassword_file = %q\n", user, s.Write(name+".password", "correct horse battery "+user+"\n"))
	fmt.Fprintf(&b, "[log]\nlevel = \"debug\"\n")
	for _, a := range addresses {
		p := s.Lab.Of(s.t, a)
		pw := s.Write(name+"-"+a+".password", Password(a)+"\n")
		fmt.Fprintf(&b, "[[accounts]]\naddress = %q\n", a)
		fmt.Fprintf(&b, "[accounts.imap]\nhost = %q\nport = %d\npassword_file = %q\nca_file = %q\n", p.Host, p.IMAP.TLSPort, pw, s.Lab.CA)
		fmt.Fprintf(&b, "[accounts.smtp]\nhost = %q\nport = %d\ntls = \"starttls\"\npassword_file = %q\nca_file = %q\n", p.Host, p.SMTP.StartTLSPort, pw, s.Lab.CA)
		fmt.Fprintf(&b, "[[accounts.clients]]\nname = \"test\"\npassword_sha256 = %q\n", m[2])
	}
	g.Config = s.Write(name+".toml", b.String())
	g.Process = s.process(filepath.Join(g.Dir, "log"), "run", "--config", g.Config)
	s.Gateways[name] = g
	return g
}
