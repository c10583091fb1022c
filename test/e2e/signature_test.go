package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloudmls/gateway/test/corpus"
	"github.com/cloudmls/gateway/test/stack"
)

// signatures lets OpenSSL and GnuPG check what was signed before it was sealed,
// in the octets that the reader gets.
func (j *journey) signatures(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string, octets []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, octets, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := func(name string) string {
		b, err := corpus.Key(name)
		if err != nil {
			t.Fatal(err)
		}
		return file(name, b)
	}
	check := func(message, verdict, program string, args ...string) {
		t.Helper()
		out, err := exec.Command(program, args...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), verdict) {
			t.Errorf("%s: %s says %v, want %q:\n%s", message, program, err, verdict, out)
		}
	}
	certificate, ring := key("smime.pem"), key("openpgp.gpg")
	for _, name := range []string{"smime-signed", "smime-opaque"} {
		octets := file(name, stack.WithoutPrefix(t, j.whole[name]))
		check(name, "CMS Verification successful", "openssl", "cms", "-verify", "-no_check_time", "-CAfile", certificate, "-in", octets, "-out", filepath.Join(dir, "out"))
	}
	spoilt := bytes.Replace(stack.WithoutPrefix(t, j.whole["smime-signed"]), []byte("Gr=C3"), []byte("Gr=C4"), 1)
	if err := exec.Command("openssl", "cms", "-verify", "-no_check_time", "-CAfile", certificate, "-in", file("spoilt", spoilt), "-out", filepath.Join(dir, "out")).Run(); err == nil {
		t.Error("OpenSSL accepts a spoilt message")
	}

	const boundary = "\r\n--pgpsig"
	parts := strings.Split(string(j.whole["pgp-signed"]), boundary)
	if len(parts) != 4 {
		t.Fatalf("pgp-signed has %d pieces", len(parts))
	}
	_, signature, _ := strings.Cut(parts[2], "\r\n\r\n")
	signed := file("signed", []byte(strings.TrimPrefix(parts[1], "\r\n")))
	check("pgp-signed", "Good signature", "gpgv", "--keyring", ring, file("signature.asc", []byte(signature)), signed)
	_, text, _ := bytes.Cut(j.whole["pgp-inline-signed"], []byte("\r\n\r\n"))
	check("pgp-inline-signed", "Good signature", "gpgv", "--keyring", ring, file("clear.asc", text))
}
