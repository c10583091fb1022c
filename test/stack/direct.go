package stack

import (
	"fmt"
	"os/exec"
	"strconv"
	"testing"
)

// Direct is a raw IMAP connection to the provider itself, past the gateway.
func (l *Lab) Direct(t testing.TB, address string) *IMAP {
	t.Helper()
	p := l.Of(t, address)
	return DialIMAP(t, fmt.Sprintf("%s:%d", p.Host, p.IMAP.TLSPort), l.CA, address, Password(address))
}

// SendDirect submits a message at the sender's provider, past the gateway.
func (l *Lab) SendDirect(t testing.TB, from, to string, msg []byte) {
	t.Helper()
	p := l.Of(t, from)
	file := swaksData(t, msg)
	out, err := exec.Command("swaks", "--server", p.Host, "--port", strconv.Itoa(p.SMTP.TLSPort), "--tls-on-connect",
		"--auth", "PLAIN", "--auth-user", from, "--auth-password", Password(from), "--from", from, "--to", to, "--data", "@"+file).CombinedOutput()
	if err != nil {
		t.Fatalf("submit directly: %v\n%s", err, out)
	}
}

// Empty removes all messages of a mailbox at the provider itself.
func (l *Lab) Empty(t testing.TB, address, mailbox string) {
	t.Helper()
	c := l.Direct(t, address)
	c.OK("SELECT " + mailbox)
	c.OK(`UID STORE 1:* +FLAGS.SILENT (\Deleted)`)
	c.OK("EXPUNGE")
	c.OK("LOGOUT")
}
