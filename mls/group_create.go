package mls

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// groupIDSize is the size of a random group id, in bytes.
const groupIDSize = 32

// GroupOptions are the contents of a new group.
type GroupOptions struct {
	CipherSuite CipherSuite
	// GroupID of the new group; "" means 32 random bytes.
	GroupID      GroupID
	Credential   Credential
	SignatureKey SignaturePrivateKey
	// Lifetime of the creator's first leaf.
	Lifetime Lifetime
	// Capabilities of the creator; nil means DefaultCapabilities. The types of
	// both lists of extensions must be in it.
	Capabilities   *Capabilities
	Extensions     []Extension // of the GroupContext
	LeafExtensions []Extension // of the creator's leaf
	// Validate is the Authentication Service. It is required.
	Validate CredentialValidator
	// PSKs finds pre-shared keys; nil means that there are none.
	PSKs PSKSource
}

var errNoValidator = errors.New("a credential validator is required")

// NewGroup creates a group with the caller as its only member, in epoch 0 (RFC
// 9420 section 11).
func NewGroup(o GroupOptions) (*Group, error) {
	s, err := o.CipherSuite.suite()
	if err != nil {
		return nil, fmt.Errorf("new group: %w", err)
	}
	switch {
	case o.Validate == nil:
		return nil, fmt.Errorf("new group: %w", errNoValidator)
	case len(o.GroupID) > maxGroupID:
		return nil, fmt.Errorf("new group: id of %d bytes, at most %d are allowed", len(o.GroupID), maxGroupID)
	}
	if err := checkExtensionList(o.Extensions); err != nil {
		return nil, fmt.Errorf("new group: %w", err)
	}
	if o.GroupID == "" {
		o.GroupID = GroupID(randomBytes(groupIDSize))
	}
	kp, secrets, err := NewKeyPackage(KeyPackageOptions{
		CipherSuite: o.CipherSuite, Credential: o.Credential, SignatureKey: o.SignatureKey, Lifetime: o.Lifetime,
		Capabilities:   creatorCapabilities(&o),
		LeafExtensions: o.LeafExtensions,
	})
	if err != nil {
		return nil, fmt.Errorf("new group: %w", err)
	}
	g := &Group{
		suite: s,
		context: groupContext{
			suite: o.CipherSuite, groupID: o.GroupID,
			transcriptHash: []byte{}, extensions: cloneExtensions(o.Extensions),
		},
		tree:      newRatchetTree(1),
		signature: bytes.Clone(o.SignatureKey),
		private:   privateKeys{0: secrets.encryptionPrivate},
		updates:   map[ProposalRef]pendingUpdate{},
		validate:  o.Validate,
		psks:      o.PSKs,
	}
	g.tree.setLeaf(0, &kp.leaf)
	if err := g.begin(); err != nil {
		return nil, fmt.Errorf("new group: %w", err)
	}
	return g, nil
}

func creatorCapabilities(o *GroupOptions) *Capabilities {
	c := capabilitiesOr(o.Capabilities, o.CipherSuite, o.Credential.Type, o.LeafExtensions, o.Extensions)
	return &c
}

// begin checks the first tree and derives epoch 0 from a random epoch secret.
func (g *Group) begin() error {
	if err := g.tree.checkMembers(nil, g.context.extensions); err != nil {
		return err
	}
	if err := g.checkCredential(g.tree.leaf(0), CredentialInOwnLeaf, nil); err != nil {
		return err
	}
	if err := g.checkExternalSenders(g.context.extensions); err != nil {
		return err
	}
	g.context.treeHash = g.tree.rootHash(g.suite)
	secrets, err := deriveEpoch(g.suite, randomBytes(g.suite.Nh))
	if err != nil {
		return err
	}
	g.enter(secrets, nil)
	return nil
}

// enter makes secrets those of the current epoch and completes the
// transcript with the tag that confirms it; tag nil means to compute it.
func (g *Group) enter(secrets *epochSecrets, tag []byte) {
	g.secrets = *secrets
	g.keys = newSecretTree(secrets.encryption, g.tree.size())
	g.secrets.encryption = nil // held by the secret tree until it is consumed
	if tag == nil {
		tag = secrets.confirmationTag(g.suite, g.context.transcriptHash)
	}
	g.confirmationTag = tag
	g.interim = interimTranscriptHash(g.suite, g.context.transcriptHash, tag)
}

// checkCredential asks the Authentication Service about a leaf (RFC 9420
// section 5.3.1).
func (g *Group) checkCredential(l *leafNode, where CredentialContext, previous *Credential) error {
	return askValidator(g.validate, g.suite, g.context.groupID, l.credential, l.signatureKey, where, previous)
}

func askValidator(v CredentialValidator, s *labeled.Suite, id GroupID, c Credential, key []byte, where CredentialContext, previous *Credential) error {
	err := v(CredentialCheck{
		Credential: c, SignatureKey: key, CipherSuite: CipherSuite(s.ID), GroupID: id,
		Context: where, Previous: previous,
	})
	if err != nil {
		return invalidBecause("5.3.1", "credential is not valid", err)
	}
	return nil
}

// checkExternalSenders validates the external_senders extension, if there is
// one (RFC 9420 sections 5.3.1 and 12.1.8.1).
func (g *Group) checkExternalSenders(extensions []Extension) error {
	data, ok := findExtension(extensions, ExtensionExternalSenders)
	if !ok {
		return nil
	}
	senders, err := parseExternalSenders(data)
	if err != nil {
		return err
	}
	for _, e := range senders {
		if err := g.suite.CheckSignatureKey(e.SignatureKey); err != nil {
			return invalidBecause("12.1.8.1", "key of an external sender", err)
		}
		if err := e.Credential.bound(g.suite, e.SignatureKey); err != nil {
			return err
		}
		if err := askValidator(g.validate, g.suite, g.context.groupID, e.Credential, e.SignatureKey, CredentialInExternalSender, nil); err != nil {
			return err
		}
	}
	return nil
}
