package mls

import (
	"bytes"

	"github.com/cloudmls/gateway/mls/internal/labeled"
)

// listedProposal is a proposal of a Commit with who sent it: the committer, if
// it is there by value.
type listedProposal struct {
	proposal Proposal
	sender   Sender
	ref      ProposalRef // "" if by value
	link     bool        // own PSK of a new group, of usage reinit or branch
}

// checkProposal checks one proposal by itself (RFC 9420 section 12.1).
func (g *Group) checkProposal(p Proposal, sender Sender) error {
	switch p := p.(type) {
	case *Add:
		if err := p.KeyPackage.validate(g.suite); err != nil {
			return err
		}
		return g.checkAdd(p)
	case *Update:
		return g.checkUpdate(p, sender)
	case *Remove:
		if g.tree.leaf(p.Removed) == nil {
			return invalid("12.1.3", "removed leaf is blank")
		}
	case *PreSharedKey:
		return checkPSKProposal(g.suite, &p.ID)
	case *ReInit:
		if p.Version < MLS10 {
			return invalid("12.1.5", "version is less than the group's")
		}
		return checkExtensionList(p.Extensions)
	case *GroupContextExtensions:
		if err := checkExtensionList(p.Extensions); err != nil {
			return err
		}
		return g.checkExternalSenders(p.Extensions)
	}
	return nil
}

// checkAdd is RFC 9420 section 12.1.1 for a KeyPackage that is valid by itself.
func (g *Group) checkAdd(p *Add) error {
	if p.KeyPackage.suite != g.context.suite {
		return invalid("10.1", "cipher suite of the key package is not the group's")
	}
	return g.checkCredential(&p.KeyPackage.leaf, CredentialInAdd, nil)
}

// validateAdds validates the KeyPackages of all Adds that are in a list by
// value (RFC 9420 section 10.1). The errors are those of their places; after
// the first of them, places may be nil that were not looked at.
func (g *Group) validateAdds(list []listedProposal, w workers) []error {
	var packages []*KeyPackage
	var at []int
	for i, l := range list {
		if p, ok := l.proposal.(*Add); ok && l.ref == "" {
			packages, at = append(packages, p.KeyPackage), append(at, i)
		}
	}
	errs := make([]error, len(list))
	_ = w.verify(g.suite, len(packages), 2, func(i int, b *labeled.Batch) error {
		return packages[i].validateIn(b, g.suite)
	}, func(i int) error {
		errs[at[i]] = packages[i].validate(g.suite)
		return errs[at[i]]
	})
	return errs
}

// checkUpdate is RFC 9420 section 12.1.2 with 7.3.
func (g *Group) checkUpdate(p *Update, sender Sender) error {
	if sender.Type != SenderMember {
		return invalid("12.1.2", "update is not from a member")
	}
	old := g.tree.leaf(LeafIndex(sender.Index))
	switch {
	case old == nil:
		return invalid("12.1.2", "update is not from a member")
	case p.leaf.source != sourceUpdate:
		return invalid("7.3", "leaf_node_source is not update")
	case bytes.Equal(old.encryptionKey, p.leaf.encryptionKey):
		return invalid("7.3", "update keeps the encryption key")
	}
	if err := p.leaf.validate(g.suite, g.context.groupID, LeafIndex(sender.Index)); err != nil {
		return err
	}
	return g.checkSuccessor(old, &p.leaf, CredentialInUpdate)
}

// checkSuccessor asks about a leaf that replaces another, if the credential or
// its key changed.
func (g *Group) checkSuccessor(old, leaf *leafNode, where CredentialContext) error {
	if old.credential.Equal(leaf.credential) && bytes.Equal(old.signatureKey, leaf.signatureKey) {
		return nil
	}
	return g.checkCredential(leaf, where, &old.credential)
}

// checkPSKProposal is RFC 9420 section 12.1.4.
func checkPSKProposal(s *labeled.Suite, id *PreSharedKeyID) error {
	if id.links() {
		return invalid("12.1.4", "psk is for reinitialization or branching")
	}
	return checkPSKNonce(s, id)
}

func checkPSKNonce(s *labeled.Suite, id *PreSharedKeyID) error {
	if len(id.Nonce) != s.Nh {
		return invalid("12.1.4", "psk_nonce has the wrong length")
	}
	return nil
}

// checkList checks the proposals of a regular Commit (RFC 9420 section 12.2),
// apart from what needs the resulting tree.
func (g *Group) checkList(list []listedProposal, committer LeafIndex, w workers) error {
	if err := checkTogether(list, committer); err != nil {
		return err
	}
	invalidAdds := g.validateAdds(list, w)
	for i, l := range list {
		// One by reference was checked when it was received, in this epoch.
		if l.ref != "" || l.link {
			continue
		}
		if err := invalidAdds[i]; err != nil {
			return err
		}
		if p, ok := l.proposal.(*Add); ok {
			if err := g.checkAdd(p); err != nil {
				return err
			}
		} else if err := g.checkProposal(l.proposal, l.sender); err != nil {
			return err
		}
	}
	return nil
}

// checkTogether checks which proposals are in the list of a regular Commit, not
// each by itself.
func checkTogether(list []listedProposal, committer LeafIndex) error {
	changed := map[LeafIndex]bool{}
	psks := map[string]bool{}
	extensions := 0
	for _, l := range list {
		var leaf *LeafIndex
		switch p := l.proposal.(type) {
		case *Update:
			if l.ref == "" || LeafIndex(l.sender.Index) == committer {
				return invalid("12.2", "update was made by the committer")
			}
			leaf = (*LeafIndex)(&l.sender.Index)
		case *Remove:
			if p.Removed == committer {
				return invalid("12.2", "commit removes the committer")
			}
			leaf = &p.Removed
		case *PreSharedKey:
			id := string(encode(&p.ID))
			if psks[id] {
				return invalid("12.2", "pre-shared key is used twice")
			}
			psks[id] = true
		case *GroupContextExtensions:
			if extensions++; extensions > 1 {
				return invalid("12.2", "more than one group_context_extensions")
			}
		case *ReInit:
			if len(list) > 1 {
				return invalid("12.2", "reinit together with another proposal")
			}
		case *ExternalInit:
			return invalid("12.2", "external_init in a regular commit")
		}
		if leaf != nil {
			if changed[*leaf] {
				return invalid("12.2", "leaf is updated or removed twice")
			}
			changed[*leaf] = true
		}
	}
	if len(psks) > maxPSKs {
		return invalid("12.2", "too many pre-shared keys")
	}
	return nil
}

// checkExternalList checks the proposals of an external Commit (RFC 9420
// section 12.2).
func (g *Group) checkExternalList(list []listedProposal) error {
	inits, removes := 0, 0
	psks := map[string]bool{}
	for _, l := range list {
		if l.ref != "" {
			return invalid("12.4.3.2", "external commit has a proposal by reference")
		}
		if err := g.checkProposal(l.proposal, l.sender); err != nil {
			return err
		}
		switch p := l.proposal.(type) {
		case *ExternalInit:
			inits++
		case *Remove:
			removes++
		case *PreSharedKey:
			id := string(encode(&p.ID))
			if psks[id] {
				return invalid("12.2", "pre-shared key is used twice")
			}
			psks[id] = true
		default:
			return invalid("12.2", "external commit has a proposal that it must not have")
		}
	}
	if inits != 1 || removes > 1 || len(psks) > maxPSKs {
		return invalid("12.2", "external commit needs one external_init and at most one remove")
	}
	return nil
}
