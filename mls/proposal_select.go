package mls

import (
	"errors"
	"fmt"
)

// listProposals gathers what is to be committed: waiting proposals by
// reference, then those of the options by value.
func (g *Group) listProposals(o *CommitOptions) ([]listedProposal, error) {
	list := g.selectPending(o)
	me := Sender{Type: SenderMember, Index: uint32(g.own)}
	byValue := func(p Proposal) { list = append(list, listedProposal{proposal: p, sender: me}) }
	for _, l := range o.Remove {
		byValue(&Remove{Removed: l})
	}
	for _, kp := range o.Add {
		byValue(&Add{KeyPackage: kp})
	}
	for _, p := range o.Proposals {
		byValue(p)
	}
	if o.link != nil {
		list = append(list, listedProposal{proposal: &PreSharedKey{ID: *o.link}, sender: me, link: true})
	}
	for _, l := range list {
		if err := checkGiven(l.proposal); err != nil {
			return nil, err
		}
	}
	if len(list) > MaxProposals {
		return nil, fmt.Errorf("%d proposals, at most %d are allowed", len(list), MaxProposals)
	}
	for _, l := range list {
		p, ok := l.proposal.(*Add)
		if !ok || l.ref != "" {
			continue
		}
		if o.Now.IsZero() {
			return nil, errors.New("the current time is required for adding members")
		}
		// RFC 9420 section 7.3: the sender of an Add checks the lifetime.
		if err := p.KeyPackage.checkTime(o.Now); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// selectPending picks the waiting proposals that can be committed together
// with what the options ask for (RFC 9420 section 12.2).
func (g *Group) selectPending(o *CommitOptions) []listedProposal {
	removed := map[LeafIndex]bool{g.own: true}
	for _, l := range o.Remove {
		removed[l] = true
	}
	var chosen []pendingProposal
	for _, p := range g.proposals {
		if o.Select == nil && p.sender.Type == SenderMember ||
			o.Select != nil && o.Select(&ReceivedProposal{Ref: p.ref, Proposal: p.proposal, Sender: p.sender}) {
			chosen = append(chosen, p)
		}
	}
	keep := make([]bool, len(chosen))
	others := len(o.Add) + len(o.Remove) + len(o.Proposals)
	for i, p := range chosen {
		if r, ok := p.proposal.(*Remove); ok && !removed[r.Removed] {
			removed[r.Removed], keep[i] = true, true
		}
	}
	for i := len(chosen) - 1; i >= 0; i-- { // the last update of a leaf counts
		switch p := chosen[i].proposal.(type) {
		case *Add: // one that expired while it waited is left out
			keep[i] = o.Now.IsZero() || p.KeyPackage.leaf.lifetime.Contains(o.Now)
		case *Update:
			leaf := LeafIndex(chosen[i].sender.Index)
			keep[i] = !removed[leaf]
			removed[leaf] = true
		case *Remove, *ReInit:
		default:
			keep[i] = true
		}
	}
	var list []listedProposal
	for i, p := range chosen {
		if keep[i] {
			list = append(list, listedProposal{proposal: p.proposal, sender: p.sender, ref: p.ref})
		}
	}
	if len(list) == 0 && others == 0 { // a reinit only if there is nothing else
		for _, p := range chosen {
			if p.proposal.Type() == ProposalReInit {
				return []listedProposal{{proposal: p.proposal, sender: p.sender, ref: p.ref}}
			}
		}
	}
	return list
}
