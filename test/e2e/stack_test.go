package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// process is a running cloudmls command.
type process struct {
	t    *testing.T
	args []string
	cmd  *exec.Cmd
	log  string // file with everything it printed
	done chan struct{}
}

// start runs the program and waits until it printed a line with the word.
func start(t *testing.T, logFile, ready string, args ...string) *process {
	t.Helper()
	p := &process{t: t, args: args, log: logFile}
	p.start(ready)
	t.Cleanup(p.stop)
	return p
}

func (p *process) start(ready string) {
	p.t.Helper()
	f, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(program, p.args...)
	p.cmd.Stderr = f
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	seen := make(chan struct{})
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		defer func() { _ = f.Close() }()
		var once sync.Once
		for s := bufio.NewScanner(stdout); s.Scan(); {
			_, _ = fmt.Fprintln(f, s.Text())
			if strings.Contains(s.Text(), ready) {
				once.Do(func() { close(seen) })
			}
		}
		_, _ = io.Copy(io.Discard, stdout)
		_ = p.cmd.Wait()
	}()
	select {
	case <-seen:
	case <-p.done:
		p.t.Fatalf("cloudmls %s ended early:\n%s", strings.Join(p.args, " "), p.logText())
	case <-time.After(ioDeadline):
		p.t.Fatalf("cloudmls %s is not ready:\n%s", strings.Join(p.args, " "), p.logText())
	}
}

func (p *process) logText() string {
	b, _ := os.ReadFile(p.log)
	return string(b)
}

// stop asks the process to end and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
	case <-time.After(ioDeadline):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// kill ends the process as a power cut would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// freeAddr is a free address below the range from which the system takes ports
// for outgoing connections, so that none of these gets in between.
func freeAddr(t *testing.T) string {
	t.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 10000+rand.IntN(6000)))
		if err != nil {
			continue
		}
		defer func() { _ = ln.Close() }()
		return ln.Addr().String()
	}
	t.Fatal("no free port")
	return ""
}

// stack is a key server and gateways, each a process of its own.
type stack struct {
	t         *testing.T
	dir       string
	keyURL    string
	keyServer *process
	gateways  map[string]*gateway
}

// gateway is one user's, with one or more accounts.
type gateway struct {
	*process
	user       string
	dir        string
	config     string
	imap, smtp string
	ca         string
	password   string // of the mail clients
}

func newStack(t *testing.T) *stack {
	t.Helper()
	needLab(t)
	s := &stack{t: t, dir: t.TempDir(), gateways: map[string]*gateway{}}
	addr := freeAddr(t)
	s.keyURL = "http://" + addr
	file := s.write("keyserver.toml", fmt.Sprintf("listen = %q\norigin = %q\ndata_file = %q\n",
		addr, s.keyURL, filepath.Join(s.dir, "keyserver", "data.db")))
	s.keyServer = start(t, filepath.Join(s.dir, "keyserver.log"), "listens on", "keyserver", "--config", file)
	return s
}

func (s *stack) write(name, text string) string {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// addUser registers a user with accounts of the lab and starts a gateway.
func (s *stack) addUser(user string, addresses ...string) *gateway {
	s.t.Helper()
	g := s.configure(user, user, addresses...)
	out, err := exec.Command(program, "register", "--config", g.config).CombinedOutput()
	if err != nil {
		s.t.Fatalf("register %s: %v\n%s", user, err, out)
	}
	if !bytes.Contains(out, []byte("recovery code: ")) {
		s.t.Fatalf("register %s printed no recovery code:\n%s", user, out)
	}
	g.run()
	return g
}

// addDevice starts a further gateway of a user, with nothing but the password.
func (s *stack) addDevice(name, user string, addresses ...string) *gateway {
	s.t.Helper()
	g := s.configure(name, user, addresses...)
	g.run()
	return g
}

func (g *gateway) run() {
	g.t.Helper()
	g.process = start(g.t, filepath.Join(g.dir, "log"), "ready:", "run", "--config", g.config)
}

var passwordLine = regexp.MustCompile(`password: (\S+)[\s\S]*password_sha256 = "([0-9a-f]{64})"`)

func (s *stack) configure(name, user string, addresses ...string) *gateway {
	s.t.Helper()
	g := &gateway{process: &process{t: s.t}, user: user, dir: filepath.Join(s.dir, name), imap: freeAddr(s.t), smtp: freeAddr(s.t)}
	if err := os.MkdirAll(g.dir, 0o700); err != nil {
		s.t.Fatal(err)
	}
	out, err := exec.Command(program, "client", "new", "test").Output()
	if err != nil {
		s.t.Fatalf("client new: %v", err)
	}
	m := passwordLine.FindSubmatch(out)
	if m == nil {
		s.t.Fatalf("client new printed %s", out)
	}
	g.password = string(m[1])
	g.ca = filepath.Join(g.dir, "data", "tls", "ca.pem")
	var b strings.Builder
	fmt.Fprintf(&b, "data_dir = %q\n[listen]\nimap = %q\nsmtp = %q\n", filepath.Join(g.dir, "data"), g.imap, g.smtp)
	fmt.Fprintf(&b, "[keyserver]\nurl = %q\n", s.keyURL)
	fmt.Fprintf(&b, "[user]\nname = %q\npassword_file = %q\n", user, s.write(name+".password", "correct horse battery "+user+"\n"))
	fmt.Fprintf(&b, "[log]\nlevel = \"debug\"\n")
	for _, a := range addresses {
		p := labProvider(s.t, a)
		local, _, _ := strings.Cut(a, "@")
		pw := s.write(name+"-"+a+".password", "secret-"+local+"\n")
		fmt.Fprintf(&b, "[[accounts]]\naddress = %q\n", a)
		fmt.Fprintf(&b, "[accounts.imap]\nhost = %q\nport = %d\npassword_file = %q\nca_file = %q\n", p.Host, p.IMAP.TLSPort, pw, mailLab.CA)
		fmt.Fprintf(&b, "[accounts.smtp]\nhost = %q\nport = %d\ntls = \"starttls\"\npassword_file = %q\nca_file = %q\n", p.Host, p.SMTP.StartTLSPort, pw, mailLab.CA)
		fmt.Fprintf(&b, "[[accounts.clients]]\nname = \"test\"\npassword_sha256 = %q\n", m[2])
	}
	g.config = s.write(name+".toml", b.String())
	s.gateways[name] = g
	return g
}

func labProvider(t *testing.T, address string) provider {
	t.Helper()
	for _, p := range mailLab.Providers {
		if strings.HasSuffix(address, "@"+p.Domain) {
			return p
		}
	}
	t.Fatalf("no provider for %s", address)
	return provider{}
}

// swaks submits a message through a gateway with the well-known SMTP tester.
func (g *gateway) swaks(from string, to []string, msg []byte) (string, error) {
	g.t.Helper()
	file := swaksData(g.t, msg)
	host, port, _ := net.SplitHostPort(g.smtp)
	cmd := exec.Command("swaks", "--server", host, "--port", port, "--tls-on-connect", "--tls-verify", "--tls-ca-path", g.ca,
		"--auth", "PLAIN", "--auth-user", from, "--auth-password", g.password,
		"--from", from, "--to", strings.Join(to, ","), "--data", "@"+file, "--timeout", "60")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// smtplib submits a message with Python's client, which leaves every octet alone.
func (g *gateway) smtplib(from string, to []string, msg []byte) (string, error) {
	g.t.Helper()
	host, port, _ := net.SplitHostPort(g.smtp)
	const script = `import smtplib, ssl, sys
host, port, ca, user, password, to = sys.argv[1:7]
with smtplib.SMTP_SSL(host, int(port), context=ssl.create_default_context(cafile=ca), timeout=60) as s:
    s.login(user, password)
    s.sendmail(user, to.split(","), sys.stdin.buffer.read(), mail_options=["BODY=8BITMIME"])
`
	cmd := exec.Command("python3", "-c", script, host, port, g.ca, from, g.password, strings.Join(to, ","))
	cmd.Stdin = bytes.NewReader(msg)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// swaksData writes a message for swaks --data, which adds a line end.
func swaksData(t *testing.T, msg []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "message.eml")
	body, ok := bytes.CutSuffix(msg, []byte("\r\n"))
	if !ok {
		t.Fatal("the message does not end with a line end")
	}
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// curl fetches one message by UID through a gateway.
func (g *gateway) curl(user, mailbox string, uid int) []byte {
	g.t.Helper()
	url := fmt.Sprintf("imaps://%s/%s;UID=%d", strings.Replace(g.imap, "127.0.0.1", "localhost", 1), mailbox, uid)
	cmd := exec.Command("curl", "--silent", "--show-error", "--cacert", g.ca, "--user", user+":"+g.password, url)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("curl %s: %v\n%s", url, err, stderr.String())
	}
	return out
}

// mail is a raw IMAP connection to the gateway.
func (g *gateway) mail(user string) *rawIMAP {
	g.t.Helper()
	return dialIMAP(g.t, g.imap, g.ca, user, g.password)
}

// arrives waits for a message by its Message-ID and returns its UID.
func arrives(t *testing.T, c *rawIMAP, mailbox, messageID string) int {
	t.Helper()
	for deadline := time.Now().Add(ioDeadline); time.Now().Before(deadline); {
		c.ok("SELECT " + mailbox)
		if uids := c.search(`HEADER Message-ID "` + messageID + `"`); len(uids) > 0 {
			return uids[len(uids)-1]
		}
		time.Sleep(50 * time.Millisecond) // another process delivers; there is nothing to wait on
	}
	t.Fatalf("%s did not arrive in %s", messageID, mailbox)
	return 0
}
