package mls

import (
	"errors"
	"slices"
)

// leaveOut drops from the list of an own Commit the waiting proposals with which
// it would be invalid (RFC 9420 section 12.2), where others can be committed:
// each was valid by itself when it was received, but nothing keeps a member from
// proposing what does not fit the group, or what others proposed. Without this,
// one such proposal would stop every Commit of the epoch, and with it all
// application messages.
func (g *Group) leaveOut(list []listedProposal) ([]listedProposal, error) {
	waiting := 0
	for waiting < len(list) && list[waiting].ref != "" {
		waiting++
	}
	given := list[waiting:]
	if waiting == 0 || g.try(list) == nil {
		return list, nil
	}
	if g.try(given) != nil { // making the Commit says why
		return list, nil
	}
	// A member may be removed and added anew.
	list = slices.Clone(list[:waiting])
	slices.SortStableFunc(list, func(a, b listedProposal) int { return rank(a) - rank(b) })
	var kept []listedProposal
	// keep is called for half as many each time, so that few that do not fit
	// are found among many.
	var keep func(some []listedProposal) error
	keep = func(some []listedProposal) error {
		err := g.try(slices.Concat(kept, some, given))
		var broken *ValidationError
		switch {
		case err == nil:
			kept = append(kept, some...)
			return nil
		case !errors.As(err, &broken) && !errors.Is(err, ErrMissingPSK):
			return err
		case len(some) == 1:
			return nil
		}
		half := len(some) / 2
		if err := keep(some[:half]); err != nil {
			return err
		}
		return keep(some[half:])
	}
	if err := keep(list); err != nil {
		return nil, err
	}
	return append(kept, given...), nil
}

// rank is in which order it is tried whether proposals fit.
func rank(l listedProposal) int {
	if l.proposal.Type() == ProposalRemove {
		return 0
	}
	return 1
}

// try reports what is wrong with a list of proposals that are valid each by
// itself, as an own Commit.
func (g *Group) try(list []listedProposal) error {
	if err := checkTogether(list, g.own); err != nil {
		return err
	}
	for _, l := range list {
		// A list that was given, and was not checked, may name no member.
		if p, ok := l.proposal.(*Remove); ok && g.tree.leaf(p.Removed) == nil {
			return invalid("12.1.3", "removed leaf is blank")
		}
	}
	t, err := g.apply(list)
	if err != nil {
		return err
	}
	if err := t.tree.checkMembers(g.context.extensions, t.extensions); err != nil {
		return err
	}
	_, err = g.pskSecret(t.psks)
	return err
}
