package mls

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/mls/internal/codec"
	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// KeyPackage offers one client to groups (RFC 9420 section 10). It is
// immutable and safe for concurrent use; the slices that its methods return
// must not be changed.
type KeyPackage struct {
	version    ProtocolVersion
	suite      CipherSuite
	initKey    []byte
	leaf       leafNode
	extensions []Extension
	signature  []byte
}

// KeyPackageRef names a KeyPackage (RFC 9420 section 5.2). It is a hash, kept
// in a string so that it can be compared and used as a map key.
type KeyPackageRef string

// String returns the reference in hexadecimal.
func (r KeyPackageRef) String() string { return fmt.Sprintf("%x", string(r)) }

// KeyPackageOptions are the contents of a new KeyPackage.
type KeyPackageOptions struct {
	CipherSuite  CipherSuite
	Credential   Credential
	SignatureKey SignaturePrivateKey
	Lifetime     Lifetime
	// Capabilities of the client; nil means DefaultCapabilities. The types of
	// LeafExtensions and Extensions must be in it.
	Capabilities *Capabilities
	// LastResort marks the KeyPackage as one that may be used more than once.
	LastResort     bool
	Extensions     []Extension // of the KeyPackage
	LeafExtensions []Extension // of the leaf
}

// NewKeyPackage makes a KeyPackage with fresh init and encryption keys. The
// secrets must be stored before the KeyPackage is published.
func NewKeyPackage(o KeyPackageOptions) (*KeyPackage, *KeyPackageSecrets, error) {
	s, err := o.CipherSuite.suite()
	if err != nil {
		return nil, nil, err
	}
	public, err := s.SignaturePublicKey(o.SignatureKey)
	if err != nil {
		return nil, nil, fmt.Errorf("new key package: %w", err)
	}
	capabilities := capabilitiesOr(o.Capabilities, o.CipherSuite, o.Credential.Type, o.LeafExtensions, o.Extensions)
	if o.LastResort && !capabilities.supportsExtension(ExtensionLastResort) {
		capabilities.Extensions = append(capabilities.Extensions, ExtensionLastResort)
	}
	leaf := leafNode{
		signatureKey: public,
		credential:   o.Credential,
		capabilities: capabilities,
		source:       sourceKeyPackage,
		lifetime:     o.Lifetime,
		extensions:   cloneExtensions(o.LeafExtensions),
	}
	secrets := &KeyPackageSecrets{signaturePrivate: slices.Clone(o.SignatureKey)}
	if secrets.encryptionPrivate, leaf.encryptionKey, err = s.GenerateKeyPair(); err != nil {
		return nil, nil, err
	}
	if err := leaf.sign(s, o.SignatureKey, "", 0); err != nil {
		return nil, nil, err
	}
	kp := &KeyPackage{version: MLS10, suite: o.CipherSuite, leaf: leaf, extensions: cloneExtensions(o.Extensions)}
	if o.LastResort && !kp.IsLastResort() {
		kp.extensions = append(kp.extensions, Extension{Type: ExtensionLastResort, Data: []byte{}})
	}
	if secrets.initPrivate, kp.initKey, err = s.GenerateKeyPair(); err != nil {
		return nil, nil, err
	}
	if kp.signature, err = s.Sign(o.SignatureKey, "KeyPackageTBS", kp.tbs()); err != nil {
		return nil, nil, err
	}
	// What is published must be as the receivers require it; this also takes
	// private copies of everything the caller passed in.
	clone := new(KeyPackage)
	if err := decode(encode(kp), clone); err != nil {
		return nil, nil, fmt.Errorf("new key package: %w", err)
	}
	if err := clone.validate(s); err != nil {
		return nil, nil, fmt.Errorf("new key package: %w", err)
	}
	secrets.keyPackage = clone
	return clone, secrets, nil
}

// capabilitiesOr returns a copy of c, or the default ones with the type of the
// own credential and those of the given extensions.
func capabilitiesOr(c *Capabilities, cs CipherSuite, own CredentialType, lists ...[]Extension) Capabilities {
	if c != nil {
		return c.clone()
	}
	var types []ExtensionType
	for _, list := range lists {
		for _, e := range list {
			types = append(types, e.Type)
		}
	}
	d := DefaultCapabilities(cs, types...)
	if !slices.Contains(d.Credentials, own) {
		d.Credentials = append(d.Credentials, own)
	}
	return d
}

// ParseKeyPackage decodes an MLSMessage that holds a KeyPackage. Nothing is
// verified beyond the encoding: see Verify.
func ParseKeyPackage(b []byte) (*KeyPackage, error) {
	m, err := ParseMessage(b)
	if err != nil {
		return nil, err
	}
	kp, ok := m.KeyPackage()
	if !ok {
		return nil, fmt.Errorf("parse key package: message has wire format %d", m.WireFormat())
	}
	return kp, nil
}

// MarshalBinary returns the KeyPackage as an MLSMessage, as ParseKeyPackage
// reads it. It never fails.
func (kp *KeyPackage) MarshalBinary() ([]byte, error) {
	return (&Message{wireFormat: WireKeyPackage, keyPackage: kp}).MarshalBinary()
}

// marshal writes the KeyPackage.
func (kp *KeyPackage) marshal(w *codec.Writer) {
	w.Raw(kp.tbs())
	w.Opaque(kp.signature)
}

func (kp *KeyPackage) tbs() []byte {
	var w codec.Writer
	w.Grow(2 * usualSize)
	w.Uint16(uint16(kp.version))
	w.Uint16(uint16(kp.suite))
	w.Opaque(kp.initKey)
	kp.leaf.marshal(&w)
	writeExtensions(&w, kp.extensions)
	return w.Bytes()
}

// unmarshal reads a KeyPackage.
func (kp *KeyPackage) unmarshal(r *codec.Reader) {
	kp.version = ProtocolVersion(r.Uint16())
	kp.suite = CipherSuite(r.Uint16())
	kp.initKey = r.OpaqueMax(maxKey)
	kp.leaf.unmarshal(r)
	kp.extensions = readExtensions(r)
	kp.signature = r.OpaqueMax(maxKey)
}

// Ref returns the reference of the KeyPackage, or "" if its suite is not
// supported.
func (kp *KeyPackage) Ref() KeyPackageRef {
	s, err := kp.suite.suite()
	if err != nil {
		return ""
	}
	return KeyPackageRef(s.RefHash("MLS 1.0 KeyPackage Reference", encode(kp)))
}

// CipherSuite returns the suite that the KeyPackage is for.
func (kp *KeyPackage) CipherSuite() CipherSuite { return kp.suite }

// Credential returns who the client is.
func (kp *KeyPackage) Credential() Credential { return kp.leaf.credential }

// SignatureKey returns the client's signature key.
func (kp *KeyPackage) SignatureKey() []byte { return bytes.Clone(kp.leaf.signatureKey) }

// InitKey returns the key that a Welcome is encrypted to.
func (kp *KeyPackage) InitKey() []byte { return bytes.Clone(kp.initKey) }

// Lifetime returns when the KeyPackage may be used; the zero Lifetime if its
// leaf has none, which Verify refuses.
func (kp *KeyPackage) Lifetime() Lifetime { return kp.leaf.lifetime }

// Capabilities returns what the client supports.
func (kp *KeyPackage) Capabilities() Capabilities { return kp.leaf.capabilities.clone() }

// Extensions returns the extensions of the KeyPackage.
func (kp *KeyPackage) Extensions() []Extension { return cloneExtensions(kp.extensions) }

// IsLastResort reports whether the KeyPackage may be used more than once.
func (kp *KeyPackage) IsLastResort() bool {
	_, ok := findExtension(kp.extensions, ExtensionLastResort)
	return ok
}

// Verify checks everything of RFC 9420 section 10.1 that does not depend on a
// group, and that now is within the lifetime, which is at most
// MaxKeyPackageLifetime long. Whoever claims or adds a KeyPackage calls it;
// whether the credential is the expected one is the caller's to check.
func (kp *KeyPackage) Verify(now time.Time) error {
	s, err := kp.suite.suite()
	if err != nil {
		return err
	}
	if err := kp.validate(s); err != nil {
		return err
	}
	return kp.checkTime(now)
}

// checkTime checks what whoever adds the KeyPackage must see to, and receivers
// must not: their clocks differ.
func (kp *KeyPackage) checkTime(now time.Time) error {
	l := kp.leaf.lifetime
	if l.NotAfter < l.NotBefore || l.NotAfter-l.NotBefore > uint64(MaxKeyPackageLifetime/time.Second) {
		return invalid("7.2", "total lifetime is longer than the maximum")
	}
	if !kp.leaf.lifetime.Contains(now) {
		return invalid("7.3", "lifetime does not include the current time")
	}
	return nil
}

// validate is what RFC 9420 section 10.1 asks for without a group and a clock.
func (kp *KeyPackage) validate(s *labeled.Suite) error {
	if err := kp.validateKeys(s); err != nil {
		return err
	}
	if err := s.Verify(kp.leaf.signatureKey, "KeyPackageTBS", kp.tbs(), kp.signature); err != nil {
		return invalidBecause("10.1", "key package signature", err)
	}
	if err := kp.validateExtensions(); err != nil {
		return err
	}
	return kp.leaf.validate(s, "", 0)
}

// validateIn is validate with both signatures left to a batch.
func (kp *KeyPackage) validateIn(b *labeled.Batch, s *labeled.Suite) error {
	if err := kp.validateKeys(s); err != nil {
		return err
	}
	b.Add(kp.leaf.signatureKey, "KeyPackageTBS", kp.tbs(), kp.signature)
	if err := kp.validateExtensions(); err != nil {
		return err
	}
	return kp.leaf.validateIn(b, s, "", 0)
}

func (kp *KeyPackage) validateKeys(s *labeled.Suite) error {
	switch {
	case kp.version != MLS10:
		return invalid("10.1", "unknown protocol version")
	case uint16(kp.suite) != s.ID:
		return invalid("10.1", "cipher suite differs")
	case kp.leaf.source != sourceKeyPackage:
		return invalid("7.3", "leaf_node_source is not key_package")
	case bytes.Equal(kp.leaf.encryptionKey, kp.initKey):
		return invalid("10.1", "init_key equals encryption_key")
	}
	if err := s.CheckPublicKey(kp.initKey); err != nil {
		return invalidBecause("10", "init_key is no key of the suite", err)
	}
	return nil
}

func (kp *KeyPackage) validateExtensions() error {
	for _, e := range kp.extensions {
		if !kp.leaf.capabilities.supportsExtension(e.Type) {
			return invalid("10", "extension is not listed in the capabilities")
		}
	}
	return nil
}
