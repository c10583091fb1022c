package stack

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Swaks submits a message through a gateway with the well-known SMTP tester.
func (g *Gateway) Swaks(from string, to []string, msg []byte) (string, error) {
	g.t.Helper()
	file := swaksData(g.t, msg)
	host, port, _ := net.SplitHostPort(g.SMTP)
	cmd := exec.Command("swaks", "--server", host, "--port", port, "--tls-on-connect", "--tls-verify", "--tls-ca-path", g.CA,
		"--auth", "PLAIN", "--auth-user", from, "--auth-password", g.Password,
		"--from", from, "--to", strings.Join(to, ","), "--data", "@"+file, "--timeout", "60")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// SMTPLib submits a message with Python's client, which leaves every octet alone.
func (g *Gateway) SMTPLib(from string, to []string, msg []byte) (string, error) {
	g.t.Helper()
	host, port, _ := net.SplitHostPort(g.SMTP)
	const script = `import smtplib, ssl, sys
host, port, ca, user, password, to = sys.argv[1:7]
with smtplib.SMTP_SSL(host, int(port), context=ssl.create_default_context(cafile=ca), timeout=60) as s:
    s.login(user, password)
    s.sendmail(user, to.split(","), sys.stdin.buffer.read(), mail_options=["BODY=8BITMIME"])
`
	cmd := exec.Command("python3", "-c", script, host, port, g.CA, from, g.Password, strings.Join(to, ","))
	cmd.Stdin = bytes.NewReader(msg)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// swaksData writes a message for swaks --data, which adds a line end.
func swaksData(t testing.TB, msg []byte) string {
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

// Curl fetches one message by UID through a gateway.
func (g *Gateway) Curl(user, mailbox string, uid int) []byte {
	g.t.Helper()
	url := fmt.Sprintf("imaps://%s/%s;UID=%d", strings.Replace(g.IMAP, "127.0.0.1", "localhost", 1), mailbox, uid)
	cmd := exec.Command("curl", "--silent", "--show-error", "--cacert", g.CA, "--user", user+":"+g.Password, url)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("curl %s: %v\n%s", url, err, stderr.String())
	}
	return out
}

// Mail is a raw IMAP connection to the gateway.
func (g *Gateway) Mail(user string) *IMAP {
	g.t.Helper()
	return DialIMAP(g.t, g.IMAP, g.CA, user, g.Password)
}

// Arrives waits for a message by its Message-ID and returns its UID.
func (c *IMAP) Arrives(mailbox, messageID string) int {
	c.t.Helper()
	for deadline := time.Now().Add(Deadline); time.Now().Before(deadline); {
		c.OK("SELECT " + mailbox)
		if uids := c.Search(`HEADER Message-ID "` + messageID + `"`); len(uids) > 0 {
			return uids[len(uids)-1]
		}
		time.Sleep(50 * time.Millisecond) // another process delivers; there is nothing to wait on
	}
	c.t.Fatalf("%s did not arrive in %s", messageID, mailbox)
	return 0
}

// WithoutPrefix takes off the trace and status fields that the gateway serves
// before the submitted octets.
func WithoutPrefix(t testing.TB, seen []byte) []byte {
	t.Helper()
	rest := seen
	for status := false; ; {
		line, after, ok := bytes.Cut(rest, []byte("\r\n"))
		if !ok {
			t.Fatalf("no end of the header in %q", seen)
		}
		if status && (len(line) == 0 || line[0] != ' ' && line[0] != '\t') {
			return rest
		}
		if bytes.HasPrefix(line, []byte("CloudMLS-Status:")) {
			status = true
		}
		if len(line) == 0 {
			t.Fatalf("no status field in %q", seen)
		}
		rest = after
	}
}
