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
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read certificates: %s holds none in PEM form", caFile)
	}
	return c, nil
}
