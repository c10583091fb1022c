package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"
)

// ACMEOptions say whose certificate is obtained where.
type ACMEOptions struct {
	Hosts     []string // exactly these names are served
	Email     string   // told about problems by the directory's operator; may be empty
	Directory string   // URL; empty: Let's Encrypt
	// Cache is the folder of the account's key and the certificates with theirs.
	Cache string
	// Roots are trusted for the directory itself; nil: the system's.
	Roots *x509.CertPool
	Log   *slog.Logger
}

// ACME returns the configuration of a listener on port 443 whose certificates
// are obtained at the first handshake and renewed 30 days before they end. The
// proof is tls-alpn-01 (RFC 8737), which needs no further port. Using it means
// agreeing to the terms of the directory's operator.
func ACME(o ACMEOptions) (*tls.Config, error) {
	if len(o.Hosts) == 0 {
		return nil, errors.New("acme: no host is named")
	}
	if err := os.MkdirAll(o.Cache, 0o700); err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	client := &acme.Client{DirectoryURL: o.Directory, UserAgent: "cloudmls", HTTPClient: &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12}},
	}}
	if o.Directory == "" {
		client.DirectoryURL = acme.LetsEncryptURL
	}
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, Cache: autocert.DirCache(o.Cache), HostPolicy: autocert.HostWhitelist(o.Hosts...),
		Email: o.Email, Client: client,
	}
	c := base()
	c.NextProtos = append(c.NextProtos, acme.ALPNProto)
	c.GetCertificate = func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		cert, err := m.GetCertificate(hello)
		if err != nil && o.Log != nil && hello.ServerName != "" {
			if m.HostPolicy(hello.Context(), hello.ServerName) == nil {
				o.Log.Error("no certificate could be obtained", "host", hello.ServerName, "err", err)
			}
		}
		return cert, err
	}
	return c, nil
}
