package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloudmls/gateway/internal/acmetest"
	"github.com/cloudmls/gateway/keyserver/certs"
)

const host = "keys.example.org"

// serve answers on loopback with a configuration until the test ends.
func serve(t *testing.T, ln net.Listener, c *tls.Config) {
	t.Helper()
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") }),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan error, 1)
	go func() { done <- s.Serve(tls.NewListener(ln, c)) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// serial connects as a client that trusts roots and returns whose certificate it saw.
func serial(ln net.Listener, roots *x509.CertPool, name string) (*big.Int, error) {
	conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{"h2"}})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber, nil
}

func TestACME(t *testing.T) {
	ln := listen(t)
	d := acmetest.New(t, 90*24*time.Hour, func(string) string { return ln.Addr().String() })
	roots := x509.NewCertPool()
	roots.AddCert(d.Server.Certificate())
	cache := filepath.Join(t.TempDir(), "acme")
	o := certs.ACMEOptions{Hosts: []string{host}, Email: "admin@example.org", Directory: d.URL, Cache: cache, Roots: roots}
	c, err := certs.ACME(o)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, ln, c)
	first, err := serial(ln, d.Roots, host)
	if err != nil {
		t.Fatal(err)
	}
	again, err := serial(ln, d.Roots, host)
	if err != nil || again.Cmp(first) != 0 || d.Issued() != 1 {
		t.Errorf("second handshake: %v, serial %v after %v, %d issued", err, again, first, d.Issued())
	}
	// Somebody else's name is neither served nor asked for.
	if _, err := serial(ln, d.Roots, "other.example.org"); err == nil || d.Issued() != 1 {
		t.Errorf("another name: %v, %d issued", err, d.Issued())
	}
	// A restart uses what is in the cache; nobody else can read it.
	c, err = certs.ACME(o)
	if err != nil {
		t.Fatal(err)
	}
	ln2 := listen(t)
	serve(t, ln2, c)
	if after, err := serial(ln2, d.Roots, host); err != nil || after.Cmp(first) != 0 || d.Issued() != 1 {
		t.Errorf("after a restart: %v, serial %v, %d issued", err, after, d.Issued())
	}
	files, err := os.ReadDir(cache)
	if err != nil || len(files) == 0 {
		t.Fatalf("cache: %v, %d files", err, len(files))
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, mode %v", f.Name(), err, info.Mode())
		}
	}
}

// TestACMEProofIsChecked: a directory that reaches another server issues
// nothing, so that the test's own directory proves something.
func TestACMEProofIsChecked(t *testing.T) {
	ln, elsewhere := listen(t), listen(t)
	serve(t, elsewhere, &tls.Config{Certificates: []tls.Certificate{selfSigned(t, 7)}, NextProtos: []string{"acme-tls/1"}})
	d := acmetest.New(t, time.Hour, func(string) string { return elsewhere.Addr().String() })
	roots := x509.NewCertPool()
	roots.AddCert(d.Server.Certificate())
	c, err := certs.ACME(certs.ACMEOptions{Hosts: []string{host}, Directory: d.URL, Cache: t.TempDir(), Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, ln, c)
	if _, err := serial(ln, d.Roots, host); err == nil || d.Issued() != 0 {
		t.Errorf("handshake: %v, %d issued", err, d.Issued())
	}
}

func TestACMENeedsAHost(t *testing.T) {
	if _, err := certs.ACME(certs.ACMEOptions{Cache: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "host") {
		t.Errorf("no host: %v", err)
	}
}

func selfSigned(t *testing.T, n int64) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(n), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func writePair(t *testing.T, dir string, n int64) (*x509.Certificate, string, string) {
	t.Helper()
	pair := selfSigned(t, n)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for name, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf, certFile, keyFile
}

// TestFilesAreReadAgain: a renewed certificate serves without a restart; one
// that is broken or half written does not take the old one's place.
func TestFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	old, certFile, keyFile := writePair(t, dir, 1)
	clock := time.Now()
	f, err := certs.OpenFiles(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	certs.SetClock(f, func() time.Time { return clock })
	ln := listen(t)
	serve(t, ln, f.TLS())
	want := func(c *x509.Certificate) {
		t.Helper()
		roots := x509.NewCertPool()
		roots.AddCert(c)
		if n, err := serial(ln, roots, host); err != nil || n.Cmp(c.SerialNumber) != 0 {
			t.Errorf("serial %v, want %v: %v", n, c.SerialNumber, err)
		}
	}
	want(old)
	renewed, _, _ := writePair(t, dir, 2)
	want(old) // not looked at yet
	clock = clock.Add(2 * time.Minute)
	want(renewed)
	if err := os.WriteFile(certFile, []byte("-----BEGIN CERT"), 0o600); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(2 * time.Minute)
	want(renewed)
	if err := f.Reload(); err == nil {
		t.Error("a broken file was reloaded")
	}
	if err := os.Remove(certFile); err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(2 * time.Minute)
	want(renewed)
	last, _, _ := writePair(t, dir, 3)
	if err := f.Reload(); err != nil {
		t.Error(err)
	}
	want(last)
	if _, err := certs.OpenFiles(certFile, filepath.Join(dir, "none"), slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a missing key was not noticed")
	}
}
