package mls

import (
	"errors"
	"testing"
)

// joinExternal lets somebody join by an external Commit.
func (w *world) joinExternal(name string, change func(o *ExternalJoinOptions)) (*ExternalJoin, error) {
	w.t.Helper()
	o := ExternalJoinOptions{
		GroupInfo:  wire(w.t, must[*Message](w.t)(w.members[0].GroupInfo())),
		Credential: NewBasicCredential([]byte(name)), SignatureKey: newKey(w.t), Validate: acceptNamed,
	}
	if change != nil {
		change(&o)
	}
	return JoinExternal(o)
}

func (w *world) acceptExternal() {
	for _, g := range w.members {
		g.SetExternalCommits(true)
	}
}

func TestExternalCommit(t *testing.T) {
	w := newWorld(t, 4, 4)
	j := must[*ExternalJoin](t)(w.joinExternal("dora", nil))
	w.refused(-1, wire(t, j.Commit), "", ErrExternalCommit)
	w.acceptExternal()
	for _, g := range w.members {
		r := must[Received](t)(g.Process(wire(t, j.Commit), testNow)).(*ReceivedCommit)
		if !r.External || len(r.Added) != 1 || string(r.Added[0].Credential.Identity) != "dora" || r.Sender != 4 {
			t.Fatalf("received %+v", r)
		}
		noError(t, g.Merge(r.Staged))
	}
	w.members = append(w.members, stored(t, j.Group))
	w.agree()
	w.commit(4, CommitOptions{})
	w.commit(1, CommitOptions{Remove: []LeafIndex{2}})

	// A member that lost its state replaces itself.
	lost := LeafIndex(3)
	w.acceptExternal()
	j = must[*ExternalJoin](t)(w.joinExternal("member 3", func(o *ExternalJoinOptions) { o.Replace = &lost }))
	var stay []*Group
	for _, g := range w.members {
		r := must[Received](t)(g.Process(wire(t, j.Commit), testNow)).(*ReceivedCommit)
		if r.SelfRemoved != (g.OwnLeaf() == lost) {
			t.Errorf("member %d: removed %v", g.OwnLeaf(), r.SelfRemoved)
		}
		noError(t, g.Merge(r.Staged))
		if !g.Left() {
			stay = append(stay, g)
		}
	}
	w.members = append(stay, j.Group)
	w.agree()
	w.commit(len(w.members)-1, CommitOptions{})
}

func TestHostileExternalCommits(t *testing.T) {
	w := newWorld(t, 4, 4)
	w.acceptExternal()
	victim := LeafIndex(2)
	// Whoever replaces somebody must be acceptable as their successor; here the
	// joiner checks nothing.
	anyone := func(CredentialCheck) error { return nil }
	j := must[*ExternalJoin](t)(w.joinExternal("mallory", func(o *ExternalJoinOptions) { o.Replace, o.Validate = &victim, anyone }))
	w.refused(-1, wire(t, j.Commit), "credential is not valid", nil)

	key := newKey(t)
	sender := Sender{Type: SenderNewMemberCommit}
	good := must[*ExternalJoin](t)(w.joinExternal("dora", func(o *ExternalJoinOptions) { o.SignatureKey = key }))
	honest := good.Commit.public.framed.content.commit
	send := func(change func(c *commit), signed func(p *publicMessage)) *Message {
		c := *byFields(honest)
		c.proposals = append([]proposalOrRef(nil), honest.proposals...)
		if change != nil {
			change(&c)
		}
		return w.sendPublic(sender, key, content{commit: &c}, ContentCommit, func(p *publicMessage) {
			p.auth.confirmationTag = good.Commit.public.auth.confirmationTag
			if signed != nil {
				signed(p)
			}
		})
	}
	init := honest.proposals[0]
	for _, test := range []struct {
		name, reason string
		message      *Message
	}{
		{"two inits", "needs one external_init", send(func(c *commit) { c.proposals = append(c.proposals, init) }, nil)},
		{"no init", "needs one external_init", send(func(c *commit) { c.proposals = nil }, nil)},
		{"two removes", "at most one remove", send(func(c *commit) {
			c.proposals = append(c.proposals, proposalOrRef{proposal: &Remove{Removed: 1}}, proposalOrRef{proposal: &Remove{Removed: 2}})
		}, nil)},
		{"remove of nobody", "removed leaf is blank", send(func(c *commit) { c.proposals = append(c.proposals, proposalOrRef{proposal: &Remove{Removed: 9}}) }, nil)},
		{"update", "must not have", send(func(c *commit) {
			c.proposals = append(c.proposals, proposalOrRef{proposal: &GroupContextExtensions{}})
		}, nil)},
		{"path of another leaf", "leaf node signature", send(func(c *commit) {
			p := *c.path
			_ = p.leaf.sign(w.members[0].suite, key, w.members[0].ID(), 7)
			c.path = &p
		}, nil)},
		{"kem output", "external_init", send(func(c *commit) { c.proposals[0] = proposalOrRef{proposal: &ExternalInit{}} }, nil)},
		{"other init secret", "confirmation tag", send(func(c *commit) {
			_, public, _ := w.members[0].suite.DeriveKeyPair(w.members[0].secrets.external)
			kemOutput, _, _ := w.members[0].suite.ExternalInit(public)
			c.proposals[0] = proposalOrRef{proposal: &ExternalInit{KEMOutput: kemOutput}}
		}, nil)},
		{"signature", "message signature", send(nil, func(p *publicMessage) { p.auth.signature = flip(p.auth.signature) })},
		{"confirmation tag", "confirmation tag", send(nil, func(p *publicMessage) { p.auth.confirmationTag = make([]byte, 32) })},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			w.refused(-1, test.message, test.reason, nil)
		})
	}
	w.t = t
	w.propose(1)
	ref := w.members[0].proposals[0].ref
	w.refused(-1, send(func(c *commit) { c.proposals = append(c.proposals, proposalOrRef{ref: ref}) }, nil), "proposal by reference", nil)
	if _, err := w.members[0].Process(send(nil, nil), testNow); err != nil {
		t.Errorf("honest commit: %v", err)
	}
	info := must[*Message](t)(w.members[0].GroupInfo())
	info.groupInfo.extensions = info.groupInfo.extensions[:1]
	noError(t, info.groupInfo.sign(w.members[0].suite, w.members[0].signature))
	if _, err := w.joinExternal("dora", func(o *ExternalJoinOptions) { o.GroupInfo = info }); err == nil || errors.Is(err, ErrExternalCommit) {
		t.Errorf("group info without external key: got %v", err)
	}
}
