package mls

import (
	"fmt"
	"slices"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// validate checks what RFC 9420 section 7.3 asks of a LeafNode by itself:
// keys, signature, capabilities against its own contents. The group and the
// position count for leaves made in a group.
func (l *leafNode) validate(s *labeled.Suite, id GroupID, index LeafIndex) error {
	if err := l.validateKeys(s); err != nil {
		return err
	}
	if err := s.Verify(l.signatureKey, "LeafNodeTBS", l.tbs(id, index), l.signature); err != nil {
		// What is no key verifies nothing, so this is asked only now.
		if err := s.CheckSignatureKey(l.signatureKey); err != nil {
			return invalidBecause("5.1.1", "signature_key is no key of the suite", err)
		}
		return invalidBecause("7.3", "leaf node signature", err)
	}
	return l.validateCapabilities(s)
}

// validateIn is validate with the signature left to a batch.
func (l *leafNode) validateIn(b *labeled.Batch, s *labeled.Suite, id GroupID, index LeafIndex) error {
	if err := l.validateKeys(s); err != nil {
		return err
	}
	b.Add(l.signatureKey, "LeafNodeTBS", l.tbs(id, index), l.signature)
	return l.validateCapabilities(s)
}

func (l *leafNode) validateKeys(s *labeled.Suite) error {
	if err := s.CheckPublicKey(l.encryptionKey); err != nil {
		return invalidBecause("7.1", "encryption_key is no key of the suite", err)
	}
	return l.credential.bound(s, l.signatureKey)
}

func (l *leafNode) validateCapabilities(s *labeled.Suite) error {
	switch {
	case !slices.Contains(l.capabilities.Versions, MLS10):
		return invalid("7.2", "protocol version is not listed in the capabilities")
	case !slices.Contains(l.capabilities.CipherSuites, CipherSuite(s.ID)):
		return invalid("7.2", "cipher suite is not listed in the capabilities")
	case !slices.Contains(l.capabilities.Credentials, l.credential.Type):
		return invalid("7.2", "credential type is not listed in the capabilities")
	}
	for _, e := range l.extensions {
		if !l.capabilities.supportsExtension(e.Type) {
			return invalid("7.3", "leaf extension is not listed in the capabilities")
		}
	}
	return nil
}

// supports checks the capabilities against a GroupContext's extensions: each
// must be supported (RFC 9420 section 13.4), and so must what
// required_capabilities lists (sections 7.3 and 11.1).
func (l *leafNode) supports(extensions []Extension) error {
	for _, e := range extensions {
		if !l.capabilities.supportsExtension(e.Type) {
			return invalid("13.4", fmt.Sprintf("member does not support group extension 0x%04x", uint16(e.Type)))
		}
	}
	data, ok := findExtension(extensions, ExtensionRequiredCapabilities)
	if !ok {
		return nil
	}
	var required requiredCapabilities
	if err := decode(data, &required); err != nil {
		return invalidBecause("11.1", "required_capabilities extension is malformed", err)
	}
	for _, t := range required.extensions {
		if !l.capabilities.supportsExtension(t) {
			return invalid("7.3", fmt.Sprintf("member does not support required extension 0x%04x", uint16(t)))
		}
	}
	for _, t := range required.proposals {
		if t > ProposalGroupContextExtensions && !slices.Contains(l.capabilities.Proposals, t) {
			return invalid("7.3", fmt.Sprintf("member does not support required proposal 0x%04x", uint16(t)))
		}
	}
	for _, t := range required.credentials {
		if !slices.Contains(l.capabilities.Credentials, t) {
			return invalid("7.3", fmt.Sprintf("member does not support required credential %d", t))
		}
	}
	return nil
}
