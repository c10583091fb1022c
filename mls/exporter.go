package mls

import (
	"bytes"
	"fmt"
)

// Export derives a secret of n bytes for the application from the current
// epoch (RFC 9420 section 8.5). Different labels give independent secrets.
func (g *Group) Export(label string, context []byte, n int) ([]byte, error) {
	if g.left {
		return nil, ErrNotMember
	}
	secret, err := g.suite.DeriveSecret(g.secrets.exporter, label)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	out, err := g.suite.ExpandWithLabel(secret, "exported", g.suite.Hash(context), n)
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return out, nil
}

// EpochAuthenticator returns a value that is equal for two members exactly if
// they have the same view of the epoch (RFC 9420 section 8.7). It may be
// shown.
func (g *Group) EpochAuthenticator() []byte { return bytes.Clone(g.secrets.authenticator) }

// ResumptionPSK returns the resumption PSK of the epoch (RFC 9420 section
// 8.6). The group forgets it with the epoch; an application that wants to
// prove membership later stores it, and serves it from a PSKSource.
func (g *Group) ResumptionPSK() []byte { return bytes.Clone(g.secrets.resumption) }
