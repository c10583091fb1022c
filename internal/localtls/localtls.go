// Package localtls makes the certificate of the gateway's loopback listeners.
//
// Each installation has an authority of its own, constrained by name to
// localhost and the loopback addresses. It signs exactly one certificate and
// its key is dropped before anything is written, so a mail program or a system
// store can trust the authority and nobody, the gateway included, can use it
// for anything else. Renewal makes a new pair, which has to be trusted anew.
//
// On disk, in a folder of mode 0700: local.pem holds the certificate, the
// authority's certificate and the certificate's key in one file, so that it is
// replaced in one step; ca.pem is a copy of the authority's certificate for
// import into mail programs.
package localtls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

const (
	// Lifetime of a pair: what common clients accept for user-added
	// authorities at most (825 days), less a margin.
	Lifetime = 800 * 24 * time.Hour
	// RenewBefore is how long before its end a pair is replaced.
	RenewBefore = 30 * 24 * time.Hour

	bundleName    = "local.pem"
	authorityName = "ca.pem"
	// maxBundle bounds what is read from disk; a bundle has about 2 KiB.
	maxBundle = 64 << 10
)

// Pair is a certificate for the loopback names and the authority that signed
// it.
type Pair struct {
	// Certificate is what a listener shows. Its chain includes the authority.
	Certificate tls.Certificate
	// Authority signed the certificate; its key exists nowhere.
	Authority *x509.Certificate
	// AuthorityFile is the path of the authority's certificate (PEM).
	AuthorityFile string
	// NotAfter is when the certificate ends.
	NotAfter time.Time
	// Created says that this call made the pair: programs that trusted an
	// older one have to be told.
	Created bool
}

// TLSConfig returns a configuration for a listener. protocols are the ALPN
// names to accept, such as "imap".
func (p *Pair) TLSConfig(protocols ...string) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{p.Certificate},
		NextProtos:   protocols,
		MinVersion:   tls.VersionTLS12,
	}
}

// AuthorityPEM returns the authority's certificate for import.
func (p *Pair) AuthorityPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Authority.Raw})
}

// Ensure returns the pair in dir, or makes one if there is none or the one
// there ends within RenewBefore of now. A pair that is there but cannot be
// used is an error and stays as it is.
func Ensure(dir string, now time.Time) (*Pair, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("local certificate: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("local certificate: %w", err)
	}
	p, err := Load(dir, now)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case p.NotAfter.Sub(now) >= RenewBefore:
		return p, nil
	}
	return create(dir, now)
}

// Load returns the pair in dir. The error wraps fs.ErrNotExist if there is
// none.
func Load(dir string, now time.Time) (*Pair, error) {
	name := filepath.Join(dir, bundleName)
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("local certificate: %w", err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("local certificate: %s can be read by others (mode %04o); run chmod 600 on it", name, info.Mode().Perm())
	}
	if info.Size() > maxBundle {
		return nil, fmt.Errorf("local certificate: %s has %d octets", name, info.Size())
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("local certificate: %w", err)
	}
	p, err := parse(b, now)
	if err != nil {
		return nil, fmt.Errorf("local certificate: %s: %w", name, err)
	}
	p.AuthorityFile = filepath.Join(dir, authorityName)
	return p, writeAuthority(p)
}

// parse reads a bundle and checks that it is what Ensure makes.
func parse(b []byte, now time.Time) (*Pair, error) {
	cert, err := tls.X509KeyPair(b, b)
	if err != nil {
		return nil, err
	}
	if len(cert.Certificate) != 2 {
		return nil, fmt.Errorf("holds %d certificates instead of two", len(cert.Certificate))
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, err
	}
	authority, err := x509.ParseCertificate(cert.Certificate[1])
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	at := now
	if at.After(leaf.NotAfter) {
		at = leaf.NotAfter // an ended pair is renewed, not refused
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "localhost", CurrentTime: at}); err != nil {
		return nil, err
	}
	cert.Leaf = leaf
	return &Pair{Certificate: cert, Authority: authority, NotAfter: leaf.NotAfter}, nil
}

// create makes a new pair and puts it into dir in place of any older one.
func create(dir string, now time.Time) (*Pair, error) {
	bundle, err := issue(now)
	if err != nil {
		return nil, fmt.Errorf("make local certificate: %w", err)
	}
	defer clear(bundle)
	p, err := parse(bundle, now)
	if err != nil {
		return nil, fmt.Errorf("make local certificate: %w", err)
	}
	if err := replace(filepath.Join(dir, bundleName), bundle); err != nil {
		return nil, fmt.Errorf("make local certificate: %w", err)
	}
	p.AuthorityFile, p.Created = filepath.Join(dir, authorityName), true
	return p, writeAuthority(p)
}

// issue returns the bundle of a new pair. The authority's key is only ever in
// this function's memory.
func issue(now time.Time) ([]byte, error) {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	name := rand.Text()[:8]
	authority, err := authorityTemplate(name, now)
	if err != nil {
		return nil, err
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	signed, err := x509.ParseCertificate(authorityDER)
	if err != nil {
		return nil, err
	}
	leaf, err := leafTemplate(name, now)
	if err != nil {
		return nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, signed, leafKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return nil, err
	}
	defer clear(keyDER)
	var b bytes.Buffer
	for _, block := range []*pem.Block{
		{Type: "CERTIFICATE", Bytes: leafDER},
		{Type: "CERTIFICATE", Bytes: authorityDER},
		{Type: "PRIVATE KEY", Bytes: keyDER},
	} {
		if err := pem.Encode(&b, block); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// authorityTemplate constrains every kind of name: kinds without a permitted
// one would be unconstrained (RFC 5280 section 4.2.1.10).
func authorityTemplate(name string, now time.Time) (*x509.Certificate, error) {
	t, err := template("CloudMLS Gateway local authority "+name, now)
	if err != nil {
		return nil, err
	}
	t.IsCA, t.BasicConstraintsValid, t.MaxPathLenZero = true, true, true
	t.KeyUsage = x509.KeyUsageCertSign
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	t.PermittedDNSDomainsCritical = true
	t.PermittedDNSDomains = []string{"localhost"}
	t.PermittedEmailAddresses = []string{"localhost"}
	t.PermittedURIDomains = []string{"localhost"}
	t.PermittedIPRanges = []*net.IPNet{
		{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
		{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
	}
	return t, nil
}

func leafTemplate(name string, now time.Time) (*x509.Certificate, error) {
	t, err := template("CloudMLS Gateway on this machine "+name, now)
	if err != nil {
		return nil, err
	}
	t.BasicConstraintsValid = true // CA:FALSE
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	t.DNSNames = []string{"localhost"}
	t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	return t, nil
}

func template(name string, now time.Time) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour), // clocks differ
		NotAfter:     now.Add(Lifetime),
	}, nil
}

// writeAuthority keeps ca.pem equal to the authority of the pair.
func writeAuthority(p *Pair) error {
	want := p.AuthorityPEM()
	if have, err := os.ReadFile(p.AuthorityFile); err == nil && bytes.Equal(have, want) {
		return nil
	}
	if err := replace(p.AuthorityFile, want); err != nil {
		return fmt.Errorf("write authority certificate: %w", err)
	}
	return nil
}

// replace writes a file in one step, readable by the owner alone.
func replace(name string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncDir(filepath.Dir(name))
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil // a folder cannot be synced there
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
