package mls

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// Capabilities says what a client supports (RFC 9420 section 7.2). Default
// proposal and extension types are not listed.
type Capabilities struct {
	Versions     []ProtocolVersion
	CipherSuites []CipherSuite
	Extensions   []ExtensionType
	Proposals    []ProposalType
	Credentials  []CredentialType
}

// DefaultCapabilities returns what this package supports in suite cs, plus
// GREASE values (RFC 9420 section 13.5), plus the application's extension
// types.
func DefaultCapabilities(cs CipherSuite, extra ...ExtensionType) Capabilities {
	c := Capabilities{
		Versions:     []ProtocolVersion{MLS10},
		CipherSuites: []CipherSuite{cs, CipherSuite(grease())},
		Extensions:   []ExtensionType{ExtensionLastResort, ExtensionType(grease())},
		Proposals:    []ProposalType{ProposalType(grease())},
		Credentials:  []CredentialType{CredentialBasic, CredentialType(grease())},
	}
	for _, t := range extra {
		if !t.isDefault() && !slices.Contains(c.Extensions, t) {
			c.Extensions = append(c.Extensions, t)
		}
	}
	return c
}

func (c *Capabilities) clone() Capabilities {
	return Capabilities{
		Versions:     slices.Clone(c.Versions),
		CipherSuites: slices.Clone(c.CipherSuites),
		Extensions:   slices.Clone(c.Extensions),
		Proposals:    slices.Clone(c.Proposals),
		Credentials:  slices.Clone(c.Credentials),
	}
}

// supportsExtension reports whether t is default or listed.
func (c *Capabilities) supportsExtension(t ExtensionType) bool {
	return t.isDefault() || slices.Contains(c.Extensions, t)
}

// marshal writes the capabilities.
func (c *Capabilities) marshal(w *codec.Writer) {
	writeList(w, c.Versions)
	writeList(w, c.CipherSuites)
	writeList(w, c.Extensions)
	writeList(w, c.Proposals)
	writeList(w, c.Credentials)
}

// unmarshal reads capabilities. Unknown values are kept.
func (c *Capabilities) unmarshal(r *codec.Reader) {
	c.Versions = readList[ProtocolVersion](r)
	c.CipherSuites = readList[CipherSuite](r)
	c.Extensions = readList[ExtensionType](r)
	c.Proposals = readList[ProposalType](r)
	c.Credentials = readList[CredentialType](r)
}

// Lifetime is when a KeyPackage may be used, in seconds since 1970-01-01 UTC,
// both ends included.
type Lifetime struct{ NotBefore, NotAfter uint64 }

// Contains reports whether t is within the lifetime.
func (l Lifetime) Contains(t time.Time) bool {
	s := t.Unix()
	return s >= 0 && l.NotBefore <= uint64(s) && uint64(s) <= l.NotAfter
}

// leafNodeSource says how a LeafNode came to be in the tree.
type leafNodeSource uint8

const (
	sourceKeyPackage leafNodeSource = 1
	sourceUpdate     leafNodeSource = 2
	sourceCommit     leafNodeSource = 3
)

// leafNode is a LeafNode (RFC 9420 section 7.2). It is never changed once it
// is in a tree or a message.
type leafNode struct {
	encryptionKey []byte
	signatureKey  []byte
	credential    Credential
	capabilities  Capabilities
	source        leafNodeSource
	lifetime      Lifetime // source key_package
	parentHash    []byte   // source commit
	extensions    []Extension
	signature     []byte
}

func (l *leafNode) marshalUnsigned(w *codec.Writer) {
	w.Opaque(l.encryptionKey)
	w.Opaque(l.signatureKey)
	l.credential.marshal(w)
	l.capabilities.marshal(w)
	w.Uint8(uint8(l.source))
	switch l.source {
	case sourceKeyPackage:
		w.Uint64(l.lifetime.NotBefore)
		w.Uint64(l.lifetime.NotAfter)
	case sourceCommit:
		w.Opaque(l.parentHash)
	}
	writeExtensions(w, l.extensions)
}

func (l *leafNode) marshal(w *codec.Writer) {
	l.marshalUnsigned(w)
	w.Opaque(l.signature)
}

func (l *leafNode) unmarshal(r *codec.Reader) {
	l.encryptionKey = r.OpaqueMax(maxKey)
	l.signatureKey = r.OpaqueMax(maxKey)
	l.credential.unmarshal(r)
	l.capabilities.unmarshal(r)
	l.source = leafNodeSource(r.Uint8())
	switch l.source {
	case sourceKeyPackage:
		l.lifetime.NotBefore = r.Uint64()
		l.lifetime.NotAfter = r.Uint64()
	case sourceUpdate:
	case sourceCommit:
		l.parentHash = r.OpaqueMax(maxHash)
	default:
		r.Fail(fmt.Errorf("unknown leaf node source %d", l.source))
	}
	l.extensions = readExtensions(r)
	l.signature = r.OpaqueMax(maxKey)
}

// tbs is LeafNodeTBS: the group and position count for leaves made in a group.
func (l *leafNode) tbs(id GroupID, index LeafIndex) []byte {
	var w codec.Writer
	w.Grow(usualSize)
	l.marshalUnsigned(&w)
	if l.source != sourceKeyPackage {
		w.Opaque([]byte(id))
		w.Uint32(uint32(index))
	}
	return w.Bytes()
}

func (l *leafNode) sign(s *labeled.Suite, sig SignaturePrivateKey, id GroupID, index LeafIndex) error {
	signature, err := s.Sign(sig, "LeafNodeTBS", l.tbs(id, index))
	if err != nil {
		return err
	}
	l.signature = signature
	return nil
}

func (l *leafNode) equal(m *leafNode) bool {
	return bytes.Equal(encode(l), encode(m))
}
