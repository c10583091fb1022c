package mls

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"
)

// SuccessorOptions are what making a group out of an older one takes.
type SuccessorOptions struct {
	// GroupID of a subgroup; "" means 32 random bytes. A reinitialized group
	// has the id that its ReInit says.
	GroupID GroupID
	// Add are fresh KeyPackages of the other members.
	Add []*KeyPackage
	// SignatureKey and Credential of the caller; nil means those of its leaf in
	// the old group. A reinitialized group of another suite needs another key.
	SignatureKey   SignaturePrivateKey
	Credential     *Credential
	Lifetime       Lifetime      // of the caller's leaf, until its Commit replaces it
	Capabilities   *Capabilities // nil means DefaultCapabilities
	LeafExtensions []Extension
	// SameMember reports whether a member of the old group and one of the new
	// group are the same, which is the application's to say. nil means that
	// their credentials are equal.
	SameMember func(old, joined Member) bool
	// Now is the current time, against which the lifetimes of Add are checked.
	Now time.Time
	// Parallel is the number of goroutines to spread work on, as in
	// CommitOptions.
	Parallel int
}

// Branch makes a subgroup: a new group of some members of this one, with its
// cipher suite and extensions, whose key schedule proves that its maker was a
// member in the current epoch (RFC 9420 section 11.3). The new group is in
// epoch 1; it must be stored before the Welcome, which is nil if nobody is
// added, is sent. This group, in this epoch, is what the receivers give to JoinOptions.Predecessor.
func (g *Group) Branch(o SuccessorOptions) (*Group, *Message, error) {
	next, welcome, err := g.branch(&o)
	if err != nil {
		return nil, nil, fmt.Errorf("branch: %w", err)
	}
	return next, welcome, nil
}

func (g *Group) branch(o *SuccessorOptions) (*Group, *Message, error) {
	if err := g.usable(); err != nil {
		return nil, nil, err
	}
	return g.succeed(o, ResumptionBranch, o.GroupID, g.context.suite, g.context.extensions)
}

// Reinitialize makes the group that follows this one after a ReInit took effect
// (RFC 9420 section 11.2): with the id, cipher suite and extensions of the
// ReInit and with all members of this group. Any member may do it. The new
// group is in epoch 1; it must be stored before the Welcome is sent, and this
// group is what the receivers give to JoinOptions.Predecessor.
func (g *Group) Reinitialize(o SuccessorOptions) (*Group, *Message, error) {
	next, welcome, err := g.reinitialize(&o)
	if err != nil {
		return nil, nil, fmt.Errorf("reinitialize: %w", err)
	}
	return next, welcome, nil
}

func (g *Group) reinitialize(o *SuccessorOptions) (*Group, *Message, error) {
	switch {
	case g.left:
		return nil, nil, ErrNotMember
	case g.reinit == nil:
		return nil, nil, errors.New("no ReInit has taken effect")
	case g.reinit.Version != MLS10:
		return nil, nil, fmt.Errorf("unknown protocol version %d", g.reinit.Version)
	case g.reinit.GroupID == "":
		return nil, nil, errors.New("group id of the ReInit is empty")
	case o.GroupID != "" && o.GroupID != g.reinit.GroupID:
		return nil, nil, errors.New("group id is not that of the ReInit")
	}
	return g.succeed(o, ResumptionReInit, g.reinit.GroupID, g.reinit.CipherSuite, g.reinit.Extensions)
}

// succeed creates a group whose first Commit adds the others and has a
// resumption PSK of this one.
func (g *Group) succeed(o *SuccessorOptions, usage ResumptionUsage, id GroupID, suite CipherSuite, extensions []Extension) (*Group, *Message, error) {
	link := &PreSharedKeyID{
		Type: PSKResumption, Usage: usage,
		GroupID: g.context.groupID, Epoch: g.context.epoch,
	}
	resumption := g.secrets.resumption
	next, err := NewGroup(GroupOptions{
		CipherSuite: suite, GroupID: id, Extensions: extensions,
		Credential: g.credentialOr(o.Credential), SignatureKey: g.signatureOr(o.SignatureKey),
		Lifetime: o.Lifetime, Capabilities: o.Capabilities, LeafExtensions: o.LeafExtensions,
		Validate: g.validate,
		PSKs: func(asked PreSharedKeyID) ([]byte, error) {
			if !bytes.Equal(encode(&asked), encode(link)) {
				return nil, nil
			}
			return resumption, nil
		},
	})
	if err != nil {
		return nil, nil, err
	}
	if next.ID() == g.ID() {
		return nil, nil, errors.New("new group has the id of the old one")
	}
	link.Nonce = randomBytes(next.suite.Nh)
	p, err := next.commit(&CommitOptions{Add: o.Add, Now: o.Now, Parallel: o.Parallel, link: link})
	if err != nil {
		return nil, nil, err
	}
	if err := g.checkRoster(usage, p.Staged.next.Members(), o.SameMember); err != nil {
		return nil, nil, err
	}
	if err := next.Merge(p.Staged); err != nil {
		return nil, nil, err
	}
	next.SetPSKs(g.psks)
	return next, p.Welcome, nil
}

func (g *Group) credentialOr(c *Credential) Credential {
	if c != nil {
		return *c
	}
	return g.tree.leaf(g.own).credential
}

func (g *Group) signatureOr(sig SignaturePrivateKey) SignaturePrivateKey {
	if sig != nil {
		return sig
	}
	return g.signature
}

// checkRoster compares the members of this group with those of one that was
// made from it: a subgroup has nobody else, a reinitialized group leaves nobody
// out (RFC 9420 section 12.4.3.1).
func (g *Group) checkRoster(usage ResumptionUsage, joined []Member, same func(old, joined Member) bool) error {
	old := g.Members()
	if usage == ResumptionReInit {
		if !covered(old, joined, same) {
			return invalid("11.2", "reinitialized group leaves a member out")
		}
		return nil
	}
	var turned func(joined, old Member) bool
	if same != nil {
		turned = func(joined, old Member) bool { return same(old, joined) }
	}
	if !covered(joined, old, turned) {
		return invalid("11.3", "subgroup has a member that the old group has not")
	}
	return nil
}

// covered reports whether each of some members is the same as one of others; nil
// means that their credentials are equal.
func covered(some, others []Member, same func(some, other Member) bool) bool {
	if same == nil {
		known := make(map[string]bool, len(others))
		for i := range others {
			known[string(encode(&others[i].Credential))] = true
		}
		return !slices.ContainsFunc(some, func(m Member) bool { return !known[string(encode(&m.Credential))] })
	}
	return !slices.ContainsFunc(some, func(m Member) bool {
		return !slices.ContainsFunc(others, func(o Member) bool { return same(m, o) })
	})
}
