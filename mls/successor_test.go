package mls

import (
	"errors"
	"fmt"
	"runtime/metrics"
	"strings"
	"testing"
)

// fresh are new KeyPackages of members of w, by their positions.
func (w *world) fresh(cs CipherSuite, positions ...int) (list []*KeyPackage, secrets []*KeyPackageSecrets) {
	w.t.Helper()
	for _, i := range positions {
		kp, s := newKeyPackage(w.t, string(w.members[i].tree.leaf(w.members[i].own).credential.Identity), ofSuite(cs))
		list, secrets = append(list, kp), append(secrets, s)
	}
	return list, secrets
}

func TestBranch(t *testing.T) {
	for _, cs := range CipherSuites() {
		t.Run(cs.String(), func(t *testing.T) {
			w := newWorld(t, 4, 2, func(o *GroupOptions) {
				o.CipherSuite = cs
				o.Extensions = []Extension{{Type: ExtensionLastResort, Data: []byte("kept")}}
			})
			maker := w.members[1]
			add, secrets := w.fresh(cs, 0, 3)
			next, welcome, err := maker.Branch(SuccessorOptions{Add: add, Now: testNow, Lifetime: testLifetime()})
			noError(t, err)
			sub := &world{t: t, members: []*Group{stored(t, next)}}
			for i, s := range secrets {
				old := stored(t, w.members[3*i])
				g, err := JoinWelcome(wire(t, welcome), JoinOptions{Secrets: s, Validate: acceptNamed, Predecessor: old})
				noError(t, err)
				sub.members = append(sub.members, g)
			}
			sub.agree()
			if next.Epoch() != 1 || next.CipherSuite() != cs || next.ID() == maker.ID() || len(next.Members()) != 3 {
				t.Errorf("subgroup: epoch %d, suite %s, %d members", next.Epoch(), next.CipherSuite(), len(next.Members()))
			}
			if data, _ := next.Extension(ExtensionLastResort); string(data) != "kept" {
				t.Errorf("extension: got %q", data)
			}
			sub.commit(2, CommitOptions{})
			w.commit(1, CommitOptions{}) // the old group goes on
		})
	}
}

// ended is a group that a ReInit ended, which asks for one of suite cs.
func ended(t *testing.T, cs CipherSuite) *world {
	t.Helper()
	w := newWorld(t, 3, 3)
	w.commit(1, CommitOptions{Proposals: []Proposal{&ReInit{
		GroupID: "next", Version: MLS10, CipherSuite: cs, Extensions: []Extension{{Type: ExtensionLastResort, Data: []byte{}}},
	}}})
	return w
}

func TestReinitialize(t *testing.T) {
	for _, cs := range CipherSuites() {
		t.Run(cs.String(), func(t *testing.T) {
			w := ended(t, cs)
			add, secrets := w.fresh(cs, 0, 1)
			// Another than the committer makes the new group.
			next, welcome, err := w.members[2].Reinitialize(SuccessorOptions{
				Add: add, Now: testNow, Lifetime: testLifetime(), SignatureKey: newKeyOf(t, cs),
			})
			noError(t, err)
			sub := &world{t: t, members: []*Group{next}}
			for i, s := range secrets {
				g, err := JoinWelcome(wire(t, welcome), JoinOptions{Secrets: s, Validate: acceptNamed, Predecessor: stored(t, w.members[i])})
				noError(t, err)
				sub.members = append(sub.members, g)
			}
			sub.agree()
			if next.ID() != "next" || next.Epoch() != 1 || next.CipherSuite() != cs {
				t.Errorf("new group: %q, epoch %d, suite %s", string(next.ID()), next.Epoch(), next.CipherSuite())
			}
			sub.commit(1, CommitOptions{})
		})
	}
}

func TestSuccessorRefusals(t *testing.T) {
	w := newWorld(t, 3, 3)
	g := w.members[0]
	stranger, _ := newKeyPackage(t, "stranger")
	all, _ := w.fresh(testSuite, 1, 2)
	o := func(add ...*KeyPackage) SuccessorOptions {
		return SuccessorOptions{Add: add, Now: testNow, Lifetime: testLifetime()}
	}
	refused := func(what, want string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", what, err, want)
		}
	}
	_, _, err := g.Branch(o(stranger))
	refused("branch with a stranger", "has a member that the old group has not", err)
	same := o(all...)
	same.GroupID = g.ID()
	_, _, err = g.Branch(same)
	refused("branch with the old id", "id of the old one", err)
	_, _, err = g.Reinitialize(o(all...))
	refused("reinitialize without reinit", "no ReInit", err)
	late := o(all...)
	late.Now = testNow.AddDate(1, 0, 0)
	_, _, err = g.Branch(late)
	refused("expired", "lifetime", err)
	alone := o()
	next, welcome, err := g.Branch(alone)
	if err != nil || welcome != nil || next.Epoch() != 1 {
		t.Errorf("branch alone: %v", err)
	}
	state := must[[]byte](t)(g.MarshalBinary())
	_, _, err = g.Branch(o(all...))
	noError(t, err)
	wantEqual(t, "group that was branched from", must[[]byte](t)(g.MarshalBinary()), state)

	w = ended(t, testSuite)
	g = w.members[0]
	all, _ = w.fresh(testSuite, 1, 2)
	_, _, err = g.Reinitialize(o(all[0]))
	refused("reinitialize without a member", "leaves a member out", err)
	_, _, err = g.Branch(o(all...))
	refused("branch of an ended group", ErrReinitialized.Error(), err)
	other := o(all...)
	other.GroupID = "other"
	_, _, err = g.Reinitialize(other)
	refused("reinitialize with another id", "not that of the ReInit", err)
	_, _, err = g.Reinitialize(o(append(all, stranger)...)) // more members are allowed
	noError(t, err)
}

// successorWelcome is a Welcome of a group made from another whose makings are
// free: what the API would refuse to make.
func successorWelcome(t *testing.T, old *Group, usage ResumptionUsage, change func(o *GroupOptions), names []string, epochs int, twice bool) (*Message, *KeyPackageSecrets) {
	t.Helper()
	id := PreSharedKeyID{Type: PSKResumption, Usage: usage, GroupID: old.ID(), Epoch: old.Epoch(), Nonce: randomBytes(32)}
	again := id
	again.Nonce = randomBytes(32)
	g := newGroup(t, string(old.tree.leaf(old.own).credential.Identity), func(o *GroupOptions) {
		o.GroupID = "next"
		o.PSKs = func(PreSharedKeyID) ([]byte, error) { return old.secrets.resumption, nil }
		change(o)
	})
	for range epochs {
		p := must[*PendingCommit](t)(g.Commit(CommitOptions{}))
		noError(t, g.Merge(p.Staged))
	}
	var add []*KeyPackage
	var last *KeyPackageSecrets
	for _, name := range names {
		kp, s := newKeyPackage(t, name, ofSuite(g.CipherSuite()))
		add, last = append(add, kp), s
	}
	me := Sender{Type: SenderMember}
	list := []listedProposal{{proposal: &PreSharedKey{ID: id}, sender: me, link: true}}
	if twice {
		list = append(list, listedProposal{proposal: &PreSharedKey{ID: again}, sender: me, link: true})
	}
	for _, kp := range add {
		list = append(list, listedProposal{proposal: &Add{KeyPackage: kp}, sender: me})
	}
	tr := must[*transition](t)(g.apply(list))
	c := &commit{proposals: listed(list)}
	path := must[*newPath](t)(g.makePath(tr, c, must[*leafNode](t)(g.newLeaf(tr, &CommitOptions{}))))
	start := must[*epochStart](t)(g.confirmCommit(tr, g.commitContent(c, me, nil, WirePrivateMessage), g.signature, g.secrets.init, path.commitSecret))
	return wire(t, must[*Message](t)(start.welcome(tr, path, true))), last
}

func TestHostileSuccessors(t *testing.T) {
	reinitialized := ended(t, testSuite)
	going := newWorld(t, 3, 3)
	lastResort := func(o *GroupOptions) { o.Extensions = []Extension{{Type: ExtensionLastResort, Data: []byte{}}} }
	others := []string{"member 1", "member 2"}
	later := reinitialized.members[0].Clone()
	version := *later.reinit
	version.Version = MLS10 + 1
	later.reinit = &version
	for _, test := range []struct {
		name, reason string
		old          *Group
		usage        ResumptionUsage
		change       func(o *GroupOptions)
		names        []string
		epochs       int
		twice        bool
	}{
		{name: "honest reinit", old: reinitialized.members[0], usage: ResumptionReInit},
		{name: "honest branch", old: going.members[0], usage: ResumptionBranch},
		{name: "reinit of a group without", reason: "last commit of the old group has no reinit", old: going.members[0], usage: ResumptionReInit},
		{name: "reinit group id", reason: "group id is not that of the reinit", old: reinitialized.members[0], usage: ResumptionReInit, change: func(o *GroupOptions) { o.GroupID = "other" }},
		{name: "reinit to another version", reason: "version is not that of the reinit", old: later, usage: ResumptionReInit},
		{name: "reinit suite", reason: "cipher suite is not that of the reinit", old: reinitialized.members[0], usage: ResumptionReInit, change: func(o *GroupOptions) { o.CipherSuite = 3 }},
		{name: "reinit extensions", reason: "extensions are not those of the reinit", old: reinitialized.members[0], usage: ResumptionReInit, change: func(o *GroupOptions) { o.Extensions = nil }},
		{name: "reinit leaves a member out", reason: "leaves a member out", old: reinitialized.members[0], usage: ResumptionReInit, names: []string{"member 2"}},
		{name: "reinit in epoch 2", reason: "not in epoch 1", old: reinitialized.members[0], usage: ResumptionReInit, epochs: 1},
		{name: "branch in epoch 2", reason: "not in epoch 1", old: going.members[0], usage: ResumptionBranch, epochs: 1},
		{name: "branch suite", reason: "cipher suite of the subgroup", old: going.members[0], usage: ResumptionBranch, change: func(o *GroupOptions) { o.CipherSuite = 3 }},
		{name: "branch with a stranger", reason: "has a member that the old group has not", old: going.members[0], usage: ResumptionBranch, names: []string{"stranger", "member 2"}},
		{name: "two links", reason: "two pre-shared keys of usage", old: going.members[0], usage: ResumptionBranch, twice: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.names == nil {
				test.names = others
			}
			m, secrets := successorWelcome(t, test.old, test.usage, func(o *GroupOptions) {
				lastResort(o)
				if test.change != nil {
					test.change(o)
				}
			}, test.names, test.epochs, test.twice)
			o := JoinOptions{Secrets: secrets, Validate: acceptNamed, Predecessor: test.old}
			_, err := JoinWelcome(m, o)
			if (err == nil) != (test.reason == "") || err != nil && !strings.Contains(err.Error(), test.reason) {
				t.Fatalf("got %v, want %q", err, test.reason)
			}
			if test.reason != "" {
				return
			}
			// Without the old group, or with another or another epoch of it,
			// nobody joins.
			moved := newWorld(t, 2, 2).members[1]
			moved.context.epoch = test.old.Epoch() // the id alone tells them apart
			for name, old := range map[string]*Group{"none": nil, "another": moved} {
				o.Predecessor = old
				if _, err := JoinWelcome(m, o); !errors.Is(err, ErrMissingPSK) {
					t.Errorf("predecessor %s: got %v, want %v", name, err, ErrMissingPSK)
				}
			}
			later := test.old.Clone()
			later.context.epoch++
			o.Predecessor = later
			if _, err := JoinWelcome(m, o); !errors.Is(err, ErrMissingPSK) {
				t.Errorf("predecessor in another epoch: got %v", err)
			}
			forged := test.old.Clone()
			forged.secrets.resumption = randomBytes(32)
			o.Predecessor = forged
			if _, err := JoinWelcome(m, o); err == nil {
				t.Error("another resumption secret was accepted")
			}
			// The application says who is the same.
			o.Predecessor = test.old
			o.SameMember = func(Member, Member) bool { return false }
			if _, err := JoinWelcome(m, o); err == nil {
				t.Error("members who are not the same were accepted")
			}
		})
	}
}

// A proposal or a Commit cannot have the PSK of a new group's first Commit.
func TestLinkingPSKsAreForFirstCommits(t *testing.T) {
	w := newWorld(t, 2, 2)
	for _, usage := range []ResumptionUsage{ResumptionReInit, ResumptionBranch} {
		p := &PreSharedKey{ID: PreSharedKeyID{Type: PSKResumption, Usage: usage, GroupID: w.members[0].ID(), Epoch: w.members[0].Epoch(), Nonce: randomBytes(32)}}
		if _, err := w.members[0].Commit(CommitOptions{Proposals: []Proposal{p}}); err == nil || !strings.Contains(err.Error(), "psk is for") {
			t.Errorf("own commit: got %v", err)
		}
		if _, err := w.members[0].Propose(p, ProposeOptions{}); err == nil || !strings.Contains(err.Error(), "psk is for") {
			t.Errorf("own proposal: got %v", err)
		}
		w.refused(1, w.sendAs(1, content{proposal: p}, ContentProposal, nil), "psk is for", nil)
	}
}

// A resumption PSK of usage application proves membership in any epoch that the
// application kept the secret of, of this group or of another.
func TestResumptionPSKOfAnotherGroup(t *testing.T) {
	other, w := newWorld(t, 2, 2), newWorld(t, 2, 2)
	id := PreSharedKeyID{Type: PSKResumption, Usage: ResumptionApplication, GroupID: other.members[0].ID(), Epoch: other.members[0].Epoch(), Nonce: randomBytes(32)}
	kept := other.members[0].ResumptionPSK()
	other.commit(0, CommitOptions{})
	for i, g := range w.members {
		g.SetPSKs(func(asked PreSharedKeyID) ([]byte, error) {
			if i == 0 && asked.GroupID == id.GroupID && asked.Epoch == id.Epoch && asked.Usage == ResumptionApplication {
				return kept, nil
			}
			return nil, nil
		})
	}
	p := must[*PendingCommit](t)(w.members[0].Commit(CommitOptions{Proposals: []Proposal{&PreSharedKey{ID: id}}}))
	w.refused(0, wire(t, p.Commit), "", ErrMissingPSK)
	w.members[1].SetPSKs(w.members[0].psks)
	w.deliver(0, p)
	w.members[1].SetPSKs(func(PreSharedKeyID) ([]byte, error) { return nil, fmt.Errorf("disk is gone") })
	id.Nonce = randomBytes(32)
	p = must[*PendingCommit](t)(w.members[0].Commit(CommitOptions{Proposals: []Proposal{&PreSharedKey{ID: id}}}))
	w.refused(0, wire(t, p.Commit), "disk is gone", nil)
}

// Subgroups are made on several goroutines where the caller allows it, and are
// the groups that others join.
func TestSuccessorsInParallel(t *testing.T) {
	started := func() uint64 {
		list := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
		metrics.Read(list)
		return list[0].Value.Uint64()
	}
	w := newWorld(t, 8, 2)
	add, secrets := w.fresh(testSuite, 0, 2, 3, 4, 5, 6, 7)
	before := started()
	next, welcome, err := w.members[1].Branch(SuccessorOptions{Add: add, Now: testNow, Lifetime: testLifetime(), Parallel: 3})
	noError(t, err)
	if n := started() - before; n < 2 {
		t.Errorf("%d goroutines were started", n)
	}
	sub := &world{t: t, members: []*Group{next}}
	for _, i := range []int{0, 6} {
		g, err := JoinWelcome(wire(t, welcome), JoinOptions{Secrets: secrets[i], Validate: acceptNamed, Predecessor: w.members[0], Parallel: 3})
		noError(t, err)
		sub.members = append(sub.members, g)
	}
	sub.agree()
}
