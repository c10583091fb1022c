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
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
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

// Ensure returns the pair in dir, or makes one if there is none or the one
// there ends within RenewBefore of now. A pair that is there but cannot be
// used is an error and stays as it is.
func Ensure(dir string, now time.Time) (*Pair, error) {
	if err := private(dir); err != nil {
		return nil, err
	}
	p, err := Load(dir, now)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return first(dir, now)
	case err != nil:
		return nil, err
	case p.NotAfter.Sub(now) < RenewBefore:
		return create(dir, now, replace)
	}
	return p, writeAuthority(p)
}

// Renew makes a new pair whatever the old one's age, and puts it in the old
// one's place once it is complete. Programs that trusted the old authority have
// to trust the new one.
func Renew(dir string, now time.Time) (*Pair, error) {
	if err := private(dir); err != nil {
		return nil, err
	}
	return create(dir, now, replace)
}

// private makes the folder, for its owner alone.
func private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("local certificate: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("local certificate: %w", err)
	}
	return nil
}

// first makes the pair of a folder that has none. If someone else was faster it
// is theirs.
func first(dir string, now time.Time) (*Pair, error) {
	p, err := create(dir, now, place)
	if !errors.Is(err, fs.ErrExist) {
		return p, err
	}
	if p, err = Load(dir, now); err != nil {
		return nil, err
	}
	return p, writeAuthority(p)
}

// Load returns the pair in dir, which may have ended, and writes nothing. The
// error wraps fs.ErrNotExist if there is none.
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
	return p, nil
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

// create makes a new pair and puts it into dir by put, which decides what
// happens to an older one.
func create(dir string, now time.Time, put func(name string, b []byte) error) (*Pair, error) {
	bundle, err := issue(now)
	if err != nil {
		return nil, fmt.Errorf("make local certificate: %w", err)
	}
	defer clear(bundle)
	p, err := parse(bundle, now)
	if err != nil {
		return nil, fmt.Errorf("make local certificate: %w", err)
	}
	if err := put(filepath.Join(dir, bundleName), bundle); err != nil {
		return nil, fmt.Errorf("make local certificate: %w", err)
	}
	p.AuthorityFile, p.Created = filepath.Join(dir, authorityName), true
	return p, writeAuthority(p)
}
