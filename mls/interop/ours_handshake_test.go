package interop

import (
	"fmt"
	"time"

	"github.com/cloudmls/gateway/mls"
)

// proposal converts p; an Update is made elsewhere.
func (m *ours) proposal(p *proposal) (mls.Proposal, error) {
	switch p.kind {
	case add:
		kp, err := mls.ParseKeyPackage(p.keyPackage)
		if err != nil {
			return nil, err
		}
		return &mls.Add{KeyPackage: kp}, kp.Verify(time.Now())
	case remove:
		return &mls.Remove{Removed: p.leaf}, nil
	case externalPSK:
		return &mls.PreSharedKey{ID: mls.PreSharedKeyID{Type: mls.PSKExternal, ID: p.psk, Nonce: m.nonce()}}, nil
	case resumptionPSK:
		return &mls.PreSharedKey{ID: mls.PreSharedKeyID{
			Type: mls.PSKResumption, Usage: mls.ResumptionApplication, GroupID: mls.GroupID(p.group), Epoch: p.epoch,
			Nonce: m.nonce(),
		}}, nil
	case setExtensions:
		return &mls.GroupContextExtensions{Extensions: p.extensions.ours()}, nil
	}
	return nil, fmt.Errorf("no proposal %s", p.kind)
}

func (m *ours) propose(p proposal) ([]byte, error) {
	var message *mls.Message
	var err error
	options := mls.ProposeOptions{Public: p.asPublic}
	if p.kind == update {
		message, err = m.group.ProposeUpdate(mls.UpdateOptions{ProposeOptions: options})
	} else {
		var converted mls.Proposal
		if converted, err = m.proposal(&p); err != nil {
			return nil, err
		}
		message, err = m.group.Propose(converted, options)
	}
	if err != nil {
		return nil, err
	}
	return message.MarshalBinary()
}

func (m *ours) commit(o commitOptions) (out commitMessages, err error) {
	options := mls.CommitOptions{
		Now: time.Now(), WithoutPath: o.withoutPath, Public: o.asPublic, WithoutTree: !o.treeInside,
		Padding: func(n int) int { return (n + 63) &^ 63 },
		Select:  func(*mls.ReceivedProposal) bool { return true }, // also from outside
	}
	for i := range o.proposals {
		p, err := m.proposal(&o.proposals[i])
		if err != nil {
			return out, err
		}
		switch p := p.(type) {
		case *mls.Add:
			options.Add = append(options.Add, p.KeyPackage)
		case *mls.Remove:
			options.Remove = append(options.Remove, p.Removed)
		default:
			options.Proposals = append(options.Proposals, p)
		}
	}
	m.stagedKey = nil
	if o.newKey {
		if m.stagedKey, _, err = mls.GenerateSignatureKey(m.suite); err != nil {
			return out, err
		}
		options.NewSignatureKey = m.stagedKey
	}
	pending, err := m.group.Commit(options)
	if err != nil {
		return out, err
	}
	m.staged = pending.Staged
	if out.commit, err = pending.Commit.MarshalBinary(); err != nil || pending.Welcome == nil {
		return out, err
	}
	if !o.treeInside {
		out.tree = m.staged.Group().RatchetTree()
	}
	out.welcome, err = pending.Welcome.MarshalBinary()
	return out, err
}

func (m *ours) merge() error {
	if m.external != nil {
		g := m.external.Group
		m.external, m.records, m.resumption = nil, nil, nil
		g.SetPSKs(m.findPSK)
		return m.enter(g)
	}
	return m.mergeStaged(m.staged)
}

func (m *ours) mergeStaged(s *mls.StagedCommit) error {
	if err := m.group.Merge(s); err != nil {
		return err
	}
	m.staged = nil
	return m.enter(m.group)
}

func (m *ours) drop() error {
	m.staged = nil
	return nil
}

func (m *ours) process(message []byte) error {
	parsed, err := mls.ParseMessage(message)
	if err != nil {
		return err
	}
	received, err := m.group.Process(parsed, time.Now())
	if err != nil {
		return err
	}
	if c, ok := received.(*mls.ReceivedCommit); ok {
		return m.mergeStaged(c.Staged)
	}
	return nil
}
