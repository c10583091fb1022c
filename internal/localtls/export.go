package localtls

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// AuthorityPEM returns the authority's certificate for import.
func (p *Pair) AuthorityPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Authority.Raw})
}

// AuthorityDER returns the authority's certificate in the binary form that some
// systems want.
func (p *Pair) AuthorityDER() []byte { return bytes.Clone(p.Authority.Raw) }

// Fingerprint returns the SHA-256 of a certificate as programs show it: pairs
// of upper-case hexadecimal digits with colons between.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	var b bytes.Buffer
	for i, octet := range sum {
		if i > 0 {
			b.WriteByte(':')
		}
		fmt.Fprintf(&b, "%02X", octet)
	}
	return b.String()
}
