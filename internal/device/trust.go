package device

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// Trust gives a TLS configuration that trusts the certificates of a file, or
// the system's where there is none.
func Trust(caFile string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return c, nil
	}
	c.RootCAs = x509.NewCertPool()
	return c, trustFile(c.RootCAs, caFile)
}

// TrustToo gives a TLS configuration that trusts the certificates of a file, if there
// is one, beside the system's.
func TrustToo(caFile string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile == "" {
		return c, nil
	}
	var err error
	if c.RootCAs, err = x509.SystemCertPool(); err != nil {
		return nil, fmt.Errorf("read certificates of this machine: %w", err)
	}
	return c, trustFile(c.RootCAs, caFile)
}

func trustFile(pool *x509.CertPool, caFile string) error {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return fmt.Errorf("read certificates: %w", err)
	}
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("read certificates: %s holds none in PEM form", caFile)
	}
	return nil
}
