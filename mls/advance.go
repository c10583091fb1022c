package mls

// provisional is the provisional GroupContext of RFC 9420 section 12.4.1: new,
// but with the old transcript.
func (g *Group) provisional(t *transition) *groupContext {
	return &groupContext{
		suite:          g.context.suite,
		groupID:        g.context.groupID,
		epoch:          g.context.epoch + 1,
		treeHash:       t.tree.rootHash(g.suite),
		transcriptHash: g.context.transcriptHash,
		extensions:     t.extensions,
	}
}

// epochStart is a new epoch with the secrets that only its beginning needs.
type epochStart struct {
	group  *Group
	joiner []byte // joiner_secret
	psk    []byte // psk_secret
	psks   []PreSharedKeyID
}

// advance derives the next epoch from a signed Commit (RFC 9420 section 8).
// Its confirmation tag is computed here; whoever received the Commit compares.
func (g *Group) advance(t *transition, a *authenticatedContent, initSecret, commitSecret []byte) (*epochStart, error) {
	s := g.suite
	next := &Group{
		suite:     s,
		context:   *g.provisional(t),
		tree:      t.tree,
		own:       g.own,
		signature: t.signature,
		private:   t.private,
		updates:   map[ProposalRef]pendingUpdate{},
		reinit:    t.reinit,
		validate:  g.validate,
		psks:      g.psks,
		external:  g.external,
	}
	next.context.transcriptHash = confirmedTranscriptHash(s, g.interim, a)
	psk, err := g.pskSecret(t.psks)
	if err != nil {
		return nil, err
	}
	joiner, err := joinerSecret(s, initSecret, commitSecret, &next.context)
	if err != nil {
		return nil, err
	}
	secrets, err := newEpoch(s, joiner, psk, &next.context)
	if err != nil {
		return nil, err
	}
	next.enter(secrets, nil)
	return &epochStart{group: next, joiner: joiner, psk: psk, psks: t.psks}, nil
}

// pskSecret finds the given pre-shared keys and combines them. The resumption
// PSK of the current epoch is the group's own.
func (g *Group) pskSecret(ids []PreSharedKeyID) ([]byte, error) {
	return findPSKs(g.suite, ids, func(id PreSharedKeyID) ([]byte, error) {
		if id.Type == PSKResumption && id.GroupID == g.context.groupID && id.Epoch == g.context.epoch {
			return g.secrets.resumption, nil
		}
		if g.psks == nil {
			return nil, nil
		}
		return g.psks(id)
	})
}
