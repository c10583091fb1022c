package localtls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func ensure(t *testing.T, dir string, at time.Time) *Pair {
	t.Helper()
	p, err := Ensure(dir, at)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestThreat84_AuthorityIsConstrained(t *testing.T) {
	p := ensure(t, t.TempDir(), now)
	a := p.Authority
	if !a.IsCA || !a.MaxPathLenZero || a.KeyUsage != x509.KeyUsageCertSign {
		t.Errorf("authority: CA %v, path length zero %v, usage %v", a.IsCA, a.MaxPathLenZero, a.KeyUsage)
	}
	if !a.PermittedDNSDomainsCritical {
		t.Error("name constraints are not critical")
	}
	if len(a.PermittedDNSDomains) != 1 || a.PermittedDNSDomains[0] != "localhost" || len(a.PermittedIPRanges) != 2 ||
		len(a.PermittedEmailAddresses) != 1 || len(a.PermittedURIDomains) != 1 {
		t.Errorf("constraints: %v %v %v %v", a.PermittedDNSDomains, a.PermittedIPRanges, a.PermittedEmailAddresses, a.PermittedURIDomains)
	}
	for _, ipNet := range a.PermittedIPRanges {
		if !ipNet.IP.IsLoopback() {
			t.Errorf("the authority may certify %v", ipNet)
		}
	}
	leaf := p.Certificate.Leaf
	if leaf.IsCA || !leaf.BasicConstraintsValid || leaf.KeyUsage != x509.KeyUsageDigitalSignature {
		t.Errorf("leaf: CA %v, constraints present %v, usage %v", leaf.IsCA, leaf.BasicConstraintsValid, leaf.KeyUsage)
	}
	if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Error("leaf key is not ECDSA P-256")
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Errorf("leaf: %v", err)
		}
	}
}

// A certificate for another name, signed by such an authority, is refused.
func TestThreat84_OtherNamesAreRefused(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := authorityTemplate("x", now)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, authority, authority, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(signed)
	for name, change := range map[string]func(*x509.Certificate){
		"bank.example": func(c *x509.Certificate) { c.DNSNames = []string{"bank.example"} },
		"192.0.2.1":    func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} },
		"":             func(c *x509.Certificate) { c.DNSNames, c.EmailAddresses = nil, []string{"a@bank.example"} },
	} {
		leaf, err := leafTemplate("x", now)
		if err != nil {
			t.Fatal(err)
		}
		change(leaf)
		der, err := x509.CreateCertificate(rand.Reader, leaf, signed, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now}); err == nil {
			t.Errorf("a certificate for %q is accepted", name)
		}
	}
}

func TestThreat84_AuthorityKeyIsNowhere(t *testing.T) {
	dir := t.TempDir()
	p := ensure(t, dir, now)
	keys := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		rest, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				if len(bytes.TrimSpace(rest)) > 0 {
					t.Errorf("%s holds more than PEM", path)
				}
				return nil
			}
			if block.Type == "CERTIFICATE" {
				continue
			}
			keys++
			key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			if err != nil {
				return err
			}
			if p.Authority.PublicKey.(*ecdsa.PublicKey).Equal(key.(*ecdsa.PrivateKey).Public()) {
				t.Errorf("%s holds the authority's key", path)
			}
		}
	})
	if err != nil || keys != 1 {
		t.Errorf("%d keys on disk, %v; want the leaf's alone", keys, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
}

func TestHandshake(t *testing.T) {
	source, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", source.TLSConfig("imap"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			_ = conn.Close()
		}
	}()
	dial := func() error {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(source.Pair().AuthorityPEM())
		conn, err := tls.Dial("tcp", ln.Addr().String(), &tls.Config{RootCAs: roots})
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	if err := dial(); err != nil {
		t.Error(err)
	}
	before := source.Pair().Authority
	source.now = func() time.Time { return time.Now().Add(Lifetime) }
	if p, err := source.Reload(); err != nil || !p.Created || p.Authority.Equal(before) {
		t.Fatalf("Reload = %+v, %v; want a new pair", p, err)
	}
	source.now = time.Now
	roots := x509.NewCertPool()
	roots.AddCert(source.Pair().Authority)
	config := &tls.Config{RootCAs: roots, Time: func() time.Time { return time.Now().Add(Lifetime) }}
	conn, err := tls.Dial("tcp", ln.Addr().String(), config)
	if err != nil {
		t.Fatalf("after the renewal: %v", err)
	}
	_ = conn.Close()
}

func TestReloadAndRenewal(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	first := ensure(t, dir, now)
	if !first.Created {
		t.Error("the first pair is not marked as new")
	}
	if b, err := os.ReadFile(first.AuthorityFile); err != nil || !bytes.Equal(b, first.AuthorityPEM()) {
		t.Errorf("ca.pem: %v", err)
	}
	same := ensure(t, dir, now.Add(Lifetime-RenewBefore))
	if same.Created || !same.Authority.Equal(first.Authority) {
		t.Error("a pair that is good for 30 days was replaced")
	}
	for _, at := range []time.Duration{Lifetime - RenewBefore + time.Minute, Lifetime + time.Hour, 10 * Lifetime} {
		p := ensure(t, dir, now.Add(at))
		if !p.Created || p.Authority.Equal(first.Authority) {
			t.Errorf("a pair was not replaced %v after it was made", at)
		}
		if b, err := os.ReadFile(p.AuthorityFile); err != nil || !bytes.Equal(b, p.AuthorityPEM()) {
			t.Errorf("ca.pem was not replaced: %v", err)
		}
		first = p
		now := now.Add(at)
		if again := ensure(t, dir, now); again.Created {
			t.Error("renewed twice")
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		first = ensure(t, dir, time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	}
}

func TestBrokenPairIsKept(t *testing.T) {
	for name, damage := range map[string]func(b []byte) ([]byte, os.FileMode){
		"garbage":      func([]byte) ([]byte, os.FileMode) { return []byte("garbage"), 0o600 },
		"empty":        func([]byte) ([]byte, os.FileMode) { return nil, 0o600 },
		"truncated":    func(b []byte) ([]byte, os.FileMode) { return b[:len(b)/2], 0o600 },
		"too long":     func(b []byte) ([]byte, os.FileMode) { return append(b, make([]byte, maxBundle)...), 0o600 },
		"open to all":  func(b []byte) ([]byte, os.FileMode) { return b, 0o644 },
		"no authority": func(b []byte) ([]byte, os.FileMode) { return withoutAuthority(b), 0o600 },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			ensure(t, dir, now)
			file := filepath.Join(dir, bundleName)
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b, mode := damage(b)
			if err := os.WriteFile(file, b, mode); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
			if _, err := Ensure(dir, now); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Ensure = %v, want an error", err)
			}
			if have, err := os.ReadFile(file); err != nil || !bytes.Equal(have, b) {
				t.Error("the file was changed")
			}
		})
	}
}

func withoutAuthority(b []byte) []byte {
	leaf, rest := pem.Decode(b)
	_, key := pem.Decode(rest)
	return append(pem.EncodeToMemory(leaf), key...)
}
