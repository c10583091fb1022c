package e2e

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// direct is a raw IMAP connection to the provider itself, past the gateway.
func direct(t *testing.T, address string) *rawIMAP {
	t.Helper()
	p := labProvider(t, address)
	local, _, _ := strings.Cut(address, "@")
	return dialIMAP(t, fmt.Sprintf("%s:%d", p.Host, p.IMAP.TLSPort), mailLab.CA, address, "secret-"+local)
}

// sendDirect submits a message at the sender's provider, past the gateway.
func sendDirect(t *testing.T, from, to string, msg []byte) {
	t.Helper()
	p := labProvider(t, from)
	local, _, _ := strings.Cut(from, "@")
	file := swaksData(t, msg)
	out, err := exec.Command("swaks", "--server", p.Host, "--port", strconv.Itoa(p.SMTP.TLSPort), "--tls-on-connect",
		"--auth", "PLAIN", "--auth-user", from, "--auth-password", "secret-"+local, "--from", from, "--to", to, "--data", "@"+file).CombinedOutput()
	if err != nil {
		t.Fatalf("submit directly: %v\n%s", err, out)
	}
}
