package interop

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cloudmls/gateway/mls"
)

const (
	minMembers = 2
	maxMembers = 12
)

// world is one group as all of its members see it.
type world struct {
	t     *testing.T
	rand  *rand.Rand
	suite mls.CipherSuite
	nh    int
	peer  *peer
	psks  psks
	names int

	members []member
	leaves  map[member]mls.LeafIndex // of the current epoch
	epoch   mls.Epoch
	ext     extensions
	late    map[member][]message // messages that were not delivered yet
	removed []member
	opened  int // messages that were read
}

// message is an application message on its way.
type message struct {
	from              string
	epoch             mls.Epoch
	sealed, plaintext []byte
}

func (w *world) check(err error, format string, a ...any) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("epoch %d: %s: %v", w.epoch, fmt.Sprintf(format, a...), err)
	}
}

// client makes a client that is in no group.
func (w *world) client(here bool) member {
	w.names++
	if here {
		return &ours{id: fmt.Sprintf("ours %d", w.names), suite: w.suite, nh: w.nh, psks: w.psks}
	}
	return &theirs{id: fmt.Sprintf("theirs %d", w.names), peer: w.peer, psks: w.psks}
}

func (w *world) coin() bool { return w.rand.IntN(2) == 0 }

// pick returns a random member that is accepted by all filters, or nil.
func (w *world) pick(filters ...func(member) bool) member {
	var fit []member
	for _, m := range w.members {
		if !slices.ContainsFunc(filters, func(f func(member) bool) bool { return !f(m) }) {
			fit = append(fit, m)
		}
	}
	if len(fit) == 0 {
		return nil
	}
	return fit[w.rand.IntN(len(fit))]
}

func side(ours bool) func(member) bool { return func(m member) bool { return m.ours() == ours } }

func not(others ...member) func(member) bool {
	return func(m member) bool { return !slices.Contains(others, m) }
}

// expendable accepts members whose side has another member.
func (w *world) expendable(m member) bool {
	n := 0
	for _, o := range w.members {
		if o.ours() == m.ours() {
			n++
		}
	}
	return n > 1
}

// shuffled returns the members in random order.
func (w *world) shuffled(filters ...func(member) bool) []member {
	list := slices.Clone(w.members)
	for _, f := range filters {
		list = slices.DeleteFunc(list, func(m member) bool { return !f(m) })
	}
	w.rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// newcomers makes n clients with their Adds.
func (w *world) newcomers(n int) ([]member, []proposal) {
	w.t.Helper()
	var joiners []member
	var adds []proposal
	for range n {
		m := w.client(w.coin())
		kp, err := m.keyPackage()
		w.check(err, "key package of %s", m.name())
		joiners = append(joiners, m)
		adds = append(adds, proposal{kind: add, keyPackage: kp, asPublic: w.coin()})
	}
	return joiners, adds
}

// propose sends proposals, each from a random member accepted by the filters,
// and delivers them to each other member in an order of its own.
func (w *world) propose(list []proposal, filters ...func(member) bool) {
	w.t.Helper()
	for _, p := range list {
		w.proposeAs(p, w.pick(filters...))
	}
}

func (w *world) proposeAs(p proposal, from member) {
	w.t.Helper()
	w.t.Logf("%s proposes %s %d", from.name(), p.kind, p.leaf)
	sent, err := from.propose(p)
	w.check(err, "%s proposes %s", from.name(), p.kind)
	for _, m := range w.shuffled(not(from)) {
		w.check(m.process(sent), "%s processes the proposal %s of %s", m.name(), p.kind, from.name())
	}
}

// commit lets a member commit, everybody follow and the joiners join.
func (w *world) commit(from member, o commitOptions, joiners ...member) {
	w.t.Helper()
	out, err := from.commit(o)
	w.check(err, "%s commits", from.name())
	w.follow(from, out.commit, "commit")
	for _, m := range joiners {
		w.check(m.join(out.welcome, out.tree), "%s joins with the welcome of %s", m.name(), from.name())
		w.members = append(w.members, m)
	}
	w.agree()
}

// follow delivers a Commit that the delivery service accepted.
func (w *world) follow(from member, commit []byte, kind string) {
	w.t.Helper()
	w.check(from.merge(), "%s merges", from.name())
	for _, m := range w.shuffled(not(from)) {
		w.check(m.process(commit), "%s processes the %s of %s", m.name(), kind, from.name())
	}
	w.epoch++
}

// agree compares what all members see, and lets those that were removed go.
func (w *world) agree() {
	w.t.Helper()
	label := fmt.Sprintf("label %d", w.rand.IntN(100))
	context := make([]byte, w.rand.IntN(40))
	length := 1 + w.rand.IntN(4*w.nh)
	var first *view
	var stay []member
	w.leaves = map[member]mls.LeafIndex{}
	for _, m := range w.members {
		v, err := m.view(label, context, length)
		w.check(err, "view of %s", m.name())
		if v.left {
			w.removed = append(w.removed, m)
			delete(w.late, m)
			continue
		}
		stay = append(stay, m)
		w.leaves[m] = v.leaf
		if v.members[v.leaf] != m.name() {
			w.t.Fatalf("epoch %d: %s believes to be %s", w.epoch, m.name(), v.members[v.leaf])
		}
		if first == nil {
			first = v
		}
		switch {
		case v.epoch != w.epoch:
			w.t.Fatalf("%s is in epoch %d, not %d", m.name(), v.epoch, w.epoch)
		case !bytes.Equal(v.authenticator, first.authenticator) || len(v.authenticator) != w.nh:
			w.t.Fatalf("epoch %d: %s has another epoch authenticator", w.epoch, m.name())
		case !bytes.Equal(v.exported, first.exported) || len(v.exported) != length:
			w.t.Fatalf("epoch %d: %s exports another value", w.epoch, m.name())
		case !maps.Equal(v.members, first.members):
			w.t.Fatalf("epoch %d: %s sees other members", w.epoch, m.name())
		case !maps.EqualFunc(v.extensions, w.ext, bytes.Equal):
			w.t.Fatalf("epoch %d: %s sees extensions %v, not %v", w.epoch, m.name(), v.extensions, w.ext)
		}
	}
	w.members = stay
	if len(first.members) != len(stay) {
		w.t.Fatalf("epoch %d: %d members are in the tree, %d in the test", w.epoch, len(first.members), len(stay))
	}
}
