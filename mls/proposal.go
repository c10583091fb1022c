package mls

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/cloudmls/gateway/mls/internal/codec"
)

// ProposalType is a value of the IANA registry "MLS Proposal Types".
type ProposalType uint16

// Proposal types (RFC 9420 section 17.4).
const (
	ProposalAdd                    ProposalType = 1
	ProposalUpdate                 ProposalType = 2
	ProposalRemove                 ProposalType = 3
	ProposalPSK                    ProposalType = 4
	ProposalReInit                 ProposalType = 5
	ProposalExternalInit           ProposalType = 6
	ProposalGroupContextExtensions ProposalType = 7
)

// needsPath reports whether a Commit with such a proposal must have a path
// (RFC 9420 section 12.4).
func (t ProposalType) needsPath() bool {
	return t != ProposalAdd && t != ProposalPSK && t != ProposalReInit
}

// externalAllowed reports whether an external sender may send such a proposal
// (RFC 9420 section 12.1.8).
func (t ProposalType) externalAllowed() bool {
	switch t {
	case ProposalAdd, ProposalRemove, ProposalPSK, ProposalReInit, ProposalGroupContextExtensions:
		return true
	}
	return false
}

// ProposalRef names a proposal that was sent on its own (RFC 9420 section
// 5.2). It is a hash, kept in a string so that it can be compared.
type ProposalRef string

// String returns the reference in hexadecimal.
func (p ProposalRef) String() string { return fmt.Sprintf("%x", string(p)) }

// Proposal is a change to a group (RFC 9420 section 12.1): *Add, *Update,
// *Remove, *PreSharedKey, *ReInit, *ExternalInit or *GroupContextExtensions.
// Proposals must not be changed after they were given to or got from this
// package.
type Proposal interface {
	// Type returns the registered type.
	Type() ProposalType
	// Without the type.
	marshaler
	unmarshaler
}

// Add adds a member (RFC 9420 section 12.1.1).
type Add struct{ KeyPackage *KeyPackage }

// Update replaces the sender's leaf (RFC 9420 section 12.1.2). It is made by
// Group.ProposeUpdate.
type Update struct{ leaf leafNode }

// Remove removes a member (RFC 9420 section 12.1.3).
type Remove struct{ Removed LeafIndex }

// PreSharedKey mixes a pre-shared key into the next epoch (RFC 9420 section
// 12.1.4).
type PreSharedKey struct{ ID PreSharedKeyID }

// ReInit ends the group in favour of a new one (RFC 9420 section 12.1.5).
type ReInit struct {
	GroupID     GroupID
	Version     ProtocolVersion
	CipherSuite CipherSuite
	Extensions  []Extension
}

// ExternalInit is part of an external Commit (RFC 9420 section 12.1.6).
type ExternalInit struct{ KEMOutput []byte }

// GroupContextExtensions replaces all extensions of the GroupContext (RFC 9420
// section 12.1.7).
type GroupContextExtensions struct{ Extensions []Extension }

// Type returns ProposalAdd.
func (*Add) Type() ProposalType { return ProposalAdd }

// Type returns ProposalUpdate.
func (*Update) Type() ProposalType { return ProposalUpdate }

// Type returns ProposalRemove.
func (*Remove) Type() ProposalType { return ProposalRemove }

// Type returns ProposalPSK.
func (*PreSharedKey) Type() ProposalType { return ProposalPSK }

// Type returns ProposalReInit.
func (*ReInit) Type() ProposalType { return ProposalReInit }

// Type returns ProposalExternalInit.
func (*ExternalInit) Type() ProposalType { return ProposalExternalInit }

// Type returns ProposalGroupContextExtensions.
func (*GroupContextExtensions) Type() ProposalType { return ProposalGroupContextExtensions }

func (p *Add) marshal(w *codec.Writer) { p.KeyPackage.marshal(w) }

func (p *Add) unmarshal(r *codec.Reader) {
	p.KeyPackage = new(KeyPackage)
	p.KeyPackage.unmarshal(r)
}

func (p *Update) marshal(w *codec.Writer) { p.leaf.marshal(w) }

func (p *Update) unmarshal(r *codec.Reader) { p.leaf.unmarshal(r) }

func (p *Remove) marshal(w *codec.Writer) { w.Uint32(uint32(p.Removed)) }

func (p *Remove) unmarshal(r *codec.Reader) { p.Removed = LeafIndex(r.Uint32()) }

func (p *PreSharedKey) marshal(w *codec.Writer) { p.ID.marshal(w) }

func (p *PreSharedKey) unmarshal(r *codec.Reader) { p.ID.unmarshal(r) }

func (p *ReInit) marshal(w *codec.Writer) {
	w.Opaque([]byte(p.GroupID))
	w.Uint16(uint16(p.Version))
	w.Uint16(uint16(p.CipherSuite))
	writeExtensions(w, p.Extensions)
}

func (p *ReInit) unmarshal(r *codec.Reader) {
	p.GroupID = GroupID(r.OpaqueMax(maxGroupID))
	p.Version = ProtocolVersion(r.Uint16())
	p.CipherSuite = CipherSuite(r.Uint16())
	p.Extensions = readExtensions(r)
}

func (p *ExternalInit) marshal(w *codec.Writer) { w.Opaque(p.KEMOutput) }

func (p *ExternalInit) unmarshal(r *codec.Reader) { p.KEMOutput = r.OpaqueMax(maxKey) }

func (p *GroupContextExtensions) marshal(w *codec.Writer) { writeExtensions(w, p.Extensions) }

func (p *GroupContextExtensions) unmarshal(r *codec.Reader) { p.Extensions = readExtensions(r) }

// checkGiven refuses proposals of the caller's that the other members could not
// decode: the group would fork.
func checkGiven(p Proposal) error {
	if p == nil || reflect.ValueOf(p).IsNil() {
		return errors.New("proposal is nil")
	}
	if add, ok := p.(*Add); ok {
		if add.KeyPackage == nil {
			return errors.New("proposal has no key package")
		}
		return nil // it was decoded, or made as if it had been
	}
	var w codec.Writer
	writeProposal(&w, p)
	r := codec.NewReader(w.Bytes())
	readProposal(r)
	if err := r.Finish(); err != nil {
		return fmt.Errorf("proposal of type %d cannot be encoded: %w", p.Type(), err)
	}
	return nil
}

func writeProposal(w *codec.Writer, p Proposal) {
	w.Uint16(uint16(p.Type()))
	p.marshal(w)
}

// readProposal reads a Proposal. Those of unknown types have no length, so
// they make the whole message unreadable; a group whose members do not list
// them cannot hold any (RFC 9420 section 13.2).
func readProposal(r *codec.Reader) Proposal {
	var p Proposal
	switch t := ProposalType(r.Uint16()); t {
	case ProposalAdd:
		p = new(Add)
	case ProposalUpdate:
		p = new(Update)
	case ProposalRemove:
		p = new(Remove)
	case ProposalPSK:
		p = new(PreSharedKey)
	case ProposalReInit:
		p = new(ReInit)
	case ProposalExternalInit:
		p = new(ExternalInit)
	case ProposalGroupContextExtensions:
		p = new(GroupContextExtensions)
	default:
		r.Fail(fmt.Errorf("unsupported proposal type 0x%04x", uint16(t)))
		return nil
	}
	p.unmarshal(r)
	return p
}

// proposalOrRef is an entry of a Commit (RFC 9420 section 12.4): exactly one
// field is set.
type proposalOrRef struct {
	proposal Proposal
	ref      ProposalRef
}

func (p *proposalOrRef) marshal(w *codec.Writer) {
	if p.proposal != nil {
		w.Uint8(1)
		writeProposal(w, p.proposal)
		return
	}
	w.Uint8(2)
	w.Opaque([]byte(p.ref))
}

func (p *proposalOrRef) unmarshal(r *codec.Reader) {
	switch t := r.Uint8(); t {
	case 1:
		p.proposal = readProposal(r)
	case 2:
		p.ref = ProposalRef(r.OpaqueMax(maxHash))
	default:
		r.Fail(fmt.Errorf("unknown ProposalOrRef type %d", t))
	}
}
