package mls

// placeExternal finds the leaf for the maker of an external Commit, and the
// leaf of theirs that the Commit removes, if it does (RFC 9420 sections 12.4.2
// and 12.4.3.2).
func (g *Group) placeExternal(t *transition, list []listedProposal) (LeafIndex, *leafNode, error) {
	leaf, err := t.tree.leftmostBlank()
	if err != nil {
		return 0, nil, err
	}
	for _, l := range list {
		if p, ok := l.proposal.(*Remove); ok {
			return leaf, g.tree.leaf(p.Removed), nil
		}
	}
	return leaf, nil, nil
}

// externalInit recovers the init secret of an external Commit (RFC 9420
// section 8.3).
func (g *Group) externalInit(p *ExternalInit) ([]byte, error) {
	private, public, err := g.suite.DeriveKeyPair(g.secrets.external)
	if err != nil {
		return nil, err
	}
	secret, err := g.suite.ReceiveExternalInit(private, public, p.KEMOutput)
	if err != nil {
		return nil, invalidBecause("12.1.6", "external_init", err)
	}
	return secret, nil
}
