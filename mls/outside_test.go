package mls

import (
	"errors"
	"strings"
	"testing"
)

func chosen(*ReceivedProposal) bool { return true }

// Proposals from outside reach the group, wait, and are committed if the
// application says so: of each type that RFC 9420 section 12.1.8 allows.
func TestExternalProposals(t *testing.T) {
	for _, cs := range CipherSuites() {
		t.Run(cs.String(), func(t *testing.T) {
			key := newKeyOf(t, cs)
			senders := ExternalSenders([]ExternalSender{
				{SignatureKey: must[[]byte](t)(newKeyOf(t, cs).PublicKey(cs)), Credential: NewBasicCredential([]byte("first"))},
				{SignatureKey: must[[]byte](t)(key.PublicKey(cs)), Credential: NewBasicCredential([]byte("service"))},
			})
			w := newWorld(t, 4, 2, func(o *GroupOptions) { o.CipherSuite, o.Extensions = cs, []Extension{senders} })
			propose := func(p Proposal) {
				t.Helper()
				g := w.members[0]
				m, err := ProposeExternally(ExternalProposalOptions{
					GroupID: g.ID(), Epoch: g.Epoch(), CipherSuite: cs, Proposal: p, Sender: 1, SignatureKey: key, AuthenticatedData: []byte("why"),
				})
				noError(t, err)
				for _, g := range w.members {
					r := must[Received](t)(g.Process(wire(t, m), testNow)).(*ReceivedProposal)
					if r.Sender != (Sender{Type: SenderExternal, Index: 1}) {
						t.Fatalf("sender %v", r.Sender)
					}
				}
			}
			for _, g := range w.members {
				g.SetPSKs(func(PreSharedKeyID) ([]byte, error) { return []byte("shared"), nil })
			}
			kp, secrets := newKeyPackage(t, "new", ofSuite(cs))
			propose(&Add{KeyPackage: kp})
			propose(&Remove{Removed: 2})
			propose(&PreSharedKey{ID: PreSharedKeyID{Type: PSKExternal, ID: []byte("x"), Nonce: randomBytes(w.members[0].suite.Nh)}})
			propose(&GroupContextExtensions{Extensions: []Extension{senders, {Type: ExtensionLastResort, Data: []byte("on")}}})
			p := w.commit(0, CommitOptions{Select: chosen})
			g, err := JoinWelcome(wire(t, p.Welcome), JoinOptions{Secrets: secrets, Validate: acceptNamed, PSKs: w.members[0].psks})
			noError(t, err)
			w.members = append(w.members, g)
			w.agree()
			if data, _ := g.Extension(ExtensionLastResort); string(data) != "on" || len(g.Members()) != 4 {
				t.Errorf("extension %q, %d members", data, len(g.Members()))
			}
			propose(&ReInit{GroupID: "next", Version: MLS10, CipherSuite: cs})
			w.commit(1, CommitOptions{Select: chosen})
			if _, ok := g.Reinitialized(); !ok {
				t.Error("proposed reinit did not take effect")
			}
		})
	}
}

func TestNewMemberProposal(t *testing.T) {
	for _, cs := range CipherSuites() {
		t.Run(cs.String(), func(t *testing.T) {
			w := newWorld(t, 2, 1, func(o *GroupOptions) { o.CipherSuite = cs })
			kp, secrets := newKeyPackage(t, "new", ofSuite(cs))
			m, err := ProposeNewMember(NewMemberProposalOptions{GroupID: w.members[0].ID(), Epoch: w.members[0].Epoch(), Secrets: secrets})
			noError(t, err)
			for _, g := range w.members {
				r := must[Received](t)(g.Process(wire(t, m), testNow)).(*ReceivedProposal)
				if r.Sender.Type != SenderNewMemberProposal || r.Proposal.(*Add).KeyPackage.Ref() != kp.Ref() {
					t.Fatalf("received %+v", r)
				}
			}
			if p := must[*PendingCommit](t)(w.members[0].Commit(CommitOptions{})); p.Welcome != nil {
				t.Error("new member was added without being chosen")
			}
			p := w.commit(0, CommitOptions{Select: chosen})
			w.join(wire(t, p.Welcome), secrets)
			w.agree()
		})
	}
}

func TestOutsideProposalsAreChecked(t *testing.T) {
	w := newWorld(t, 2, 1)
	_, nameless := newKeyPackage(t, "")
	m, err := ProposeNewMember(NewMemberProposalOptions{GroupID: w.members[0].ID(), Epoch: w.members[0].Epoch(), Secrets: nameless})
	noError(t, err)
	w.refused(-1, wire(t, m), "credential is not valid", nil)
	_, secrets := newKeyPackage(t, "new")
	other := newWorld(t, 2, 1)
	m, err = ProposeNewMember(NewMemberProposalOptions{GroupID: other.members[0].ID(), Epoch: other.members[0].Epoch(), Secrets: secrets})
	noError(t, err)
	w.refused(-1, wire(t, m), "", ErrWrongGroup)
	m.public.framed.groupID = w.members[0].ID() // the signature covers it
	w.refused(-1, wire(t, m), "message signature", nil)

	g := w.members[0]
	o := ExternalProposalOptions{GroupID: g.ID(), Epoch: g.Epoch(), CipherSuite: testSuite, Proposal: &Remove{Removed: 1}, SignatureKey: newKey(t)}
	m, err = ProposeExternally(o)
	noError(t, err)
	w.refused(-1, wire(t, m), "not in the external_senders", nil)
	for name, change := range map[string]func(o *ExternalProposalOptions){
		"no proposal": func(o *ExternalProposalOptions) { o.Proposal = nil },
		"update":      func(o *ExternalProposalOptions) { o.Proposal = goodUpdate(t) },
		"init":        func(o *ExternalProposalOptions) { o.Proposal = &ExternalInit{} },
		"suite":       func(o *ExternalProposalOptions) { o.CipherSuite = 0xfff0 },
		"no key":      func(o *ExternalProposalOptions) { o.SignatureKey = nil },
		"long id":     func(o *ExternalProposalOptions) { o.GroupID = GroupID(make([]byte, maxGroupID+1)) },
	} {
		bad := o
		change(&bad)
		if _, err := ProposeExternally(bad); err == nil {
			t.Errorf("%s: proposal was made", name)
		}
	}
	if _, err := ProposeNewMember(NewMemberProposalOptions{}); err == nil {
		t.Error("proposal was made without a key package")
	}
}

// What required_capabilities lists is a condition for members and joiners, of
// each of its kinds.
func TestRequiredCapabilities(t *testing.T) {
	const mine = 0xf00d
	for name, required := range map[string]Extension{
		"extension":  RequiredCapabilities([]ExtensionType{mine}, nil, nil),
		"proposal":   RequiredCapabilities(nil, []ProposalType{mine}, nil),
		"credential": RequiredCapabilities(nil, nil, []CredentialType{mine}),
	} {
		t.Run(name, func(t *testing.T) {
			able := func(c *Capabilities) *Capabilities {
				*c = DefaultCapabilities(testSuite, mine)
				c.Proposals, c.Credentials = append(c.Proposals, mine), append(c.Credentials, mine)
				return c
			}
			w := newWorld(t, 1, 0, func(o *GroupOptions) { o.Capabilities = able(new(Capabilities)) })
			kp, secrets := newKeyPackage(t, "able", func(o *KeyPackageOptions) { o.Capabilities = able(new(Capabilities)) })
			unable, _ := newKeyPackage(t, "unable")
			p := w.commit(0, CommitOptions{Add: []*KeyPackage{kp}})
			w.join(p.Welcome, secrets)
			demand := &GroupContextExtensions{Extensions: []Extension{required}}
			const want = "does not support required"
			both := CommitOptions{Proposals: []Proposal{demand}, Add: []*KeyPackage{unable}, Now: testNow}
			if _, err := w.members[0].Commit(both); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("demand and who does not meet it: got %v", err)
			}
			w.commit(0, CommitOptions{Proposals: []Proposal{demand}})
			if _, err := w.members[0].Commit(CommitOptions{Add: []*KeyPackage{unable}, Now: testNow}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("add: got %v", err)
			}
			w.refused(1, w.commitAttack(1, &attack{proposals: []Proposal{&Add{KeyPackage: unable}}}), want, nil)
			w.refused(1, w.commitAttack(1, &attack{leaf: func(_ *Group, l *leafNode) { l.capabilities = DefaultCapabilities(testSuite) }}), want, nil)
			w.acceptExternal()
			if _, err := w.joinExternal("unable", nil); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("external join: got %v", err)
			}
			g := newGroup(t, "x", func(o *GroupOptions) { o.Capabilities = able(new(Capabilities)) })
			if _, err := g.Commit(CommitOptions{Proposals: []Proposal{demand}}); err != nil {
				t.Errorf("demand that all meet: %v", err)
			}
		})
	}
}

// A KeyPackage of last resort may be used for any number of groups.
func TestLastResortJoinsMoreThanOnce(t *testing.T) {
	kp, secrets := newKeyPackage(t, "late", func(o *KeyPackageOptions) { o.LastResort = true })
	for range 3 {
		w := newWorld(t, 2, 1)
		p := w.commit(0, CommitOptions{Add: []*KeyPackage{kp}})
		secrets = must[*KeyPackageSecrets](t)(ParseKeyPackageSecrets(must[[]byte](t)(secrets.MarshalBinary())))
		w.join(wire(t, p.Welcome), secrets)
		w.agree()
	}
}

// Who proposes the same twice in public sends the same message twice; one
// proposal waits.
func TestProposeTwiceInPublic(t *testing.T) {
	w := newWorld(t, 3, 1)
	g := w.members[0]
	first := must[*Message](t)(g.Propose(&Remove{Removed: 2}, ProposeOptions{Public: true}))
	second := must[*Message](t)(g.Propose(&Remove{Removed: 2}, ProposeOptions{Public: true}))
	wantEqual(t, "second message", encode(second), encode(first))
	if n := len(g.Proposals()); n != 1 {
		t.Errorf("%d proposals wait, want 1", n)
	}
	must[Received](t)(w.members[1].Process(wire(t, first), testNow))
	if _, err := w.members[1].Process(wire(t, second), testNow); !errors.Is(err, ErrReplayed) {
		t.Errorf("second message: got %v", err)
	}
	must[Received](t)(w.members[2].Process(wire(t, second), testNow))
	w.commit(1, CommitOptions{})
}

// Handshakes as PublicMessage, trees and keys apart from what they describe.
func TestPublicHandshakes(t *testing.T) {
	for _, cs := range CipherSuites() {
		t.Run(cs.String(), func(t *testing.T) {
			w := newWorld(t, 3, 1, func(o *GroupOptions) { o.CipherSuite = cs })
			proposal := must[*Message](t)(w.members[1].ProposeUpdate(UpdateOptions{ProposeOptions: ProposeOptions{Public: true}}))
			if proposal.WireFormat() != WirePublicMessage {
				t.Fatalf("wire format %d", proposal.WireFormat())
			}
			for _, i := range []int{0, 2} {
				must[Received](t)(w.members[i].Process(wire(t, proposal), testNow))
			}
			kp, secrets := newKeyPackage(t, "new", ofSuite(cs))
			p := w.commit(0, CommitOptions{Public: true, WithoutTree: true, Add: []*KeyPackage{kp}, AuthenticatedData: []byte("seen")})
			if p.Commit.WireFormat() != WirePublicMessage || string(p.Commit.AuthenticatedData()) != "seen" {
				t.Fatalf("wire format %d", p.Commit.WireFormat())
			}
			o := JoinOptions{Secrets: secrets, Validate: acceptNamed}
			if _, err := JoinWelcome(p.Welcome, o); err == nil || !strings.Contains(err.Error(), "ratchet tree is missing") {
				t.Errorf("join without the tree: got %v", err)
			}
			o.RatchetTree = newWorld(t, 4, 1, func(o *GroupOptions) { o.CipherSuite = cs }).members[0].RatchetTree()
			if _, err := JoinWelcome(p.Welcome, o); err == nil {
				t.Error("joined with the tree of another group")
			}
			o.RatchetTree = w.members[0].RatchetTree()
			w.members = append(w.members, must[*Group](t)(JoinWelcome(wire(t, p.Welcome), o)))
			w.agree()
			w.acceptExternal()
			info := wire(t, must[*Message](t)(w.members[2].GroupInfoWith(GroupInfoOptions{WithoutTree: true})))
			external := ExternalJoinOptions{GroupInfo: info, Credential: NewBasicCredential([]byte("late")), SignatureKey: newKeyOf(t, cs), Validate: acceptNamed}
			if _, err := JoinExternal(external); err == nil || !strings.Contains(err.Error(), "ratchet tree is missing") {
				t.Errorf("external join without the tree: got %v", err)
			}
			external.RatchetTree = w.members[0].RatchetTree()
			j := must[*ExternalJoin](t)(JoinExternal(external))
			for _, g := range w.members {
				noError(t, g.Merge(must[Received](t)(g.Process(wire(t, j.Commit), testNow)).(*ReceivedCommit).Staged))
			}
			w.members = append(w.members, j.Group)
			w.agree()
			external.GroupInfo = must[*Message](t)(w.members[0].GroupInfoWith(GroupInfoOptions{WithoutExternalKey: true}))
			if _, err := JoinExternal(external); err == nil || !strings.Contains(err.Error(), "external_pub") {
				t.Errorf("external join without the key: got %v", err)
			}
		})
	}
}
