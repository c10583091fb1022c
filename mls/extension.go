package mls

import (
	"bytes"
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// ExtensionType is a value of the IANA registry "MLS Extension Types".
type ExtensionType uint16

// Extension types (RFC 9420 section 17.3). ExtensionLastResort is of
// draft-ietf-mls-extensions, in its form as a plain KeyPackage extension.
const (
	ExtensionApplicationID        ExtensionType = 0x0001
	ExtensionRatchetTree          ExtensionType = 0x0002
	ExtensionRequiredCapabilities ExtensionType = 0x0003
	ExtensionExternalPub          ExtensionType = 0x0004
	ExtensionExternalSenders      ExtensionType = 0x0005
	ExtensionLastResort           ExtensionType = 0x000a
)

// isDefault reports whether every client supports t without saying so (RFC
// 9420 section 7.2).
func (t ExtensionType) isDefault() bool {
	return t >= ExtensionApplicationID && t <= ExtensionExternalSenders
}

// Extension is an entry of one of the extension lists of RFC 9420 section
// 13.4.
type Extension struct {
	Type ExtensionType
	Data []byte
}

func findExtension(list []Extension, t ExtensionType) ([]byte, bool) {
	for _, e := range list {
		if e.Type == t {
			return e.Data, true
		}
	}
	return nil, false
}

func cloneExtensions(list []Extension) []Extension {
	out := make([]Extension, len(list))
	for i, e := range list {
		out[i] = Extension{Type: e.Type, Data: bytes.Clone(e.Data)}
	}
	return out
}

func writeExtensions(w *codec.Writer, list []Extension) {
	w.Vector(func() {
		for _, e := range list {
			w.Uint16(uint16(e.Type))
			w.Opaque(e.Data)
		}
	})
}

// readExtensions reads a list. RFC 9420 section 13.4: it must not hold two
// extensions of one type.
func readExtensions(r *codec.Reader) []Extension {
	var list []Extension
	r.Vector(maxExtensions, func(r *codec.Reader) {
		e := Extension{Type: ExtensionType(r.Uint16()), Data: r.Opaque()}
		if _, twice := findExtension(list, e.Type); twice {
			r.Fail(invalid("13.4", "extension list holds a type twice"))
		}
		list = append(list, e)
	})
	return list
}

func checkExtensionList(list []Extension) error {
	if len(list) > maxExtensions {
		return fmt.Errorf("%d extensions, at most %d are allowed", len(list), maxExtensions)
	}
	for i, e := range list {
		if _, twice := findExtension(list[:i], e.Type); twice {
			return invalid("13.4", "extension list holds a type twice")
		}
	}
	return nil
}

// requiredCapabilities is the required_capabilities extension (RFC 9420
// section 11.1).
type requiredCapabilities struct {
	extensions  []ExtensionType
	proposals   []ProposalType
	credentials []CredentialType
}

func (c *requiredCapabilities) unmarshal(r *codec.Reader) {
	c.extensions = readList[ExtensionType](r)
	c.proposals = readList[ProposalType](r)
	c.credentials = readList[CredentialType](r)
}

// RequiredCapabilities returns the required_capabilities extension that makes
// support for the given types a condition of membership.
func RequiredCapabilities(extensions []ExtensionType, proposals []ProposalType, credentials []CredentialType) Extension {
	var w codec.Writer
	writeList(&w, extensions)
	writeList(&w, proposals)
	writeList(&w, credentials)
	return Extension{Type: ExtensionRequiredCapabilities, Data: w.Bytes()}
}

// ExternalSender may send proposals to the group from outside (RFC 9420
// section 12.1.8.1).
type ExternalSender struct {
	SignatureKey []byte
	Credential   Credential
}

// ExternalSenders returns the external_senders extension for the given
// senders.
func ExternalSenders(senders []ExternalSender) Extension {
	var w codec.Writer
	w.Vector(func() {
		for _, s := range senders {
			w.Opaque(s.SignatureKey)
			s.Credential.marshal(&w)
		}
	})
	return Extension{Type: ExtensionExternalSenders, Data: w.Bytes()}
}

func parseExternalSenders(b []byte) ([]ExternalSender, error) {
	var list []ExternalSender
	r := codec.NewReader(b)
	r.Vector(maxExtensions, func(r *codec.Reader) {
		s := ExternalSender{SignatureKey: r.OpaqueMax(maxKey)}
		s.Credential.unmarshal(r)
		list = append(list, s)
	})
	if err := r.Finish(); err != nil {
		return nil, invalidBecause("12.1.8.1", "external_senders extension is malformed", err)
	}
	return list, nil
}

func writeList[T ~uint16](w *codec.Writer, list []T) {
	w.Vector(func() {
		for _, v := range list {
			w.Uint16(uint16(v))
		}
	})
}

func readList[T ~uint16](r *codec.Reader) []T {
	var list []T
	r.Vector(maxCapabilities, func(r *codec.Reader) { list = append(list, T(r.Uint16())) })
	return list
}
