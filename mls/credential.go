package mls

import (
	"bytes"
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// CredentialType is a value of the IANA registry "MLS Credential Types".
type CredentialType uint16

// Credential types (RFC 9420 section 17.5).
const (
	CredentialBasic CredentialType = 1
	CredentialX509  CredentialType = 2
)

// Credential says who a member is (RFC 9420 section 5.3). Its slices must not
// be changed by whoever gets one from this package.
type Credential struct {
	Type         CredentialType
	Identity     []byte   // of a basic credential; its format is the application's
	Certificates [][]byte // of an X.509 credential: DER, end entity first
}

// NewBasicCredential returns a basic credential, which is a bare assertion:
// what makes it true is the CredentialValidator.
func NewBasicCredential(identity []byte) Credential {
	return Credential{Type: CredentialBasic, Identity: bytes.Clone(identity)}
}

// NewX509Credential returns a credential of a certificate chain in DER, end
// entity first (RFC 9420 section 5.3). The first certificate's key must be the
// signature key of whoever uses the credential. The chain is copied.
func NewX509Credential(chain [][]byte) Credential {
	c := Credential{Type: CredentialX509}
	for _, cert := range chain {
		c.Certificates = append(c.Certificates, bytes.Clone(cert))
	}
	return c
}

// Equal reports whether c and d are the same credential.
func (c Credential) Equal(d Credential) bool {
	return bytes.Equal(encode(&c), encode(&d))
}

// marshal writes the credential.
func (c *Credential) marshal(w *codec.Writer) {
	w.Uint16(uint16(c.Type))
	if c.Type == CredentialX509 {
		w.Vector(func() {
			for _, cert := range c.Certificates {
				w.Opaque(cert)
			}
		})
		return
	}
	w.Opaque(c.Identity)
}

// unmarshal reads a credential of a known type. The encoding of others is
// unknown, so nothing after them could be found.
func (c *Credential) unmarshal(r *codec.Reader) {
	c.Type = CredentialType(r.Uint16())
	switch c.Type {
	case CredentialBasic:
		c.Identity = r.OpaqueMax(maxIdentity)
	case CredentialX509:
		r.Vector(maxCertificates, func(r *codec.Reader) {
			c.Certificates = append(c.Certificates, r.OpaqueMax(maxIdentity))
		})
	default:
		r.Fail(fmt.Errorf("unknown credential type %d", c.Type))
	}
}

// CredentialContext is the event at which a credential is validated.
type CredentialContext int

// The events of RFC 9420 section 5.3.1.
const (
	CredentialInAdd            CredentialContext = iota + 1 // KeyPackage of an Add, own or received
	CredentialInJoin                                        // leaf of a tree that is joined
	CredentialInUpdate                                      // LeafNode of an Update proposal
	CredentialInUpdatePath                                  // LeafNode of a Commit's path
	CredentialInExternalJoin                                // LeafNode of an external Commit
	CredentialInExternalSender                              // entry of the external_senders extension
	CredentialInOwnLeaf                                     // our own leaf of a new group
)

// CredentialCheck is the question put to a CredentialValidator.
type CredentialCheck struct {
	Credential   Credential
	SignatureKey []byte
	CipherSuite  CipherSuite
	GroupID      GroupID
	Context      CredentialContext
	// Previous is the credential that is being replaced, in an update or a
	// resynchronising external Commit; nil otherwise. The new identity must be
	// a valid successor of it.
	Previous *Credential
}

// CredentialValidator is the application's Authentication Service: it returns
// an error unless the credential belongs to its signature key and is
// acceptable in this group. It is called at all events of RFC 9420 section
// 5.3.1, always after the signature by SignatureKey was verified. It must not
// depend on the current time for received Commits and Welcomes, or members
// would come to disagree about a Commit.
type CredentialValidator func(CredentialCheck) error
