package interop

import "fmt"

// step is one thing that a member of a side can make happen. It reports false
// if it is not possible now.
type step struct {
	name string
	do   func(w *world, actor member) bool
}

var steps = []step{
	{"add", func(w *world, actor member) bool { return w.grow(actor, false) }},
	{"add by reference", func(w *world, actor member) bool { return w.grow(actor, true) }},
	{"remove", func(w *world, actor member) bool { return w.shrink(actor, false) }},
	{"remove by reference", func(w *world, actor member) bool { return w.shrink(actor, true) }},
	{"updates", (*world).update},
	{"refresh", (*world).refresh},
	{"external psk", func(w *world, actor member) bool { return w.mix(actor, w.newPSK()) }},
	{"resumption psk", func(w *world, actor member) bool {
		return w.mix(actor, proposal{kind: resumptionPSK, group: []byte(groupID), epoch: w.epoch})
	}},
	{"extensions", (*world).setExtensions},
	{"everything", (*world).everything},
	{"new member proposal", (*world).askToJoin},
	{"external join", (*world).joinExternal},
	{"resync", (*world).resync},
	{"race", (*world).race},
}

func (w *world) options() commitOptions {
	return commitOptions{asPublic: w.coin(), treeInside: w.coin(), newKey: w.rand.IntN(4) == 0}
}

func (w *world) grow(actor member, byReference bool) bool {
	n := min(1+w.rand.IntN(3), maxMembers-len(w.members))
	if n == 0 {
		return false
	}
	joiners, adds := w.newcomers(n)
	o := w.options()
	o.withoutPath = w.coin()
	if byReference {
		w.propose(adds)
	} else {
		o.proposals = adds
	}
	w.commit(actor, o, joiners...)
	return true
}

func (w *world) shrink(actor member, byReference bool) bool {
	gone := w.pick(not(actor), w.expendable)
	if gone == nil || len(w.members) <= minMembers {
		return false
	}
	p := proposal{kind: remove, leaf: w.leaves[gone], asPublic: w.coin()}
	o := w.options()
	if byReference {
		w.propose([]proposal{p}) // the one that goes may ask for it
	} else {
		o.proposals = []proposal{p}
	}
	w.commit(actor, o)
	return true
}

func (w *world) update(actor member) bool {
	others := w.shuffled(not(actor))
	for _, m := range others[:1+w.rand.IntN(len(others))] {
		w.proposeAs(proposal{kind: update, asPublic: w.coin()}, m)
	}
	if w.coin() {
		// The committer must leave its own one out.
		w.proposeAs(proposal{kind: update, asPublic: w.coin()}, actor)
	}
	w.commit(actor, w.options())
	return true
}

func (w *world) refresh(actor member) bool {
	w.commit(actor, w.options())
	return true
}

// newPSK makes a pre-shared key that everybody has, in place of older ones.
func (w *world) newPSK() proposal {
	id := fmt.Sprintf("psk %d", w.rand.IntN(1<<30))
	secret := make([]byte, w.nh)
	for i := range secret {
		secret[i] = byte(w.rand.IntN(256))
	}
	clear(w.psks)
	w.psks[id] = secret
	return proposal{kind: externalPSK, psk: []byte(id)}
}

// mix commits a PreSharedKey, by value or by reference.
func (w *world) mix(actor member, p proposal) bool {
	o := w.options()
	o.withoutPath = w.coin()
	p.asPublic = w.coin()
	if w.coin() {
		w.propose([]proposal{p})
	} else {
		o.proposals = []proposal{p}
	}
	w.commit(actor, o)
	return true
}

func (w *world) newExtensions() proposal {
	w.ext = extensions{appExtension: fmt.Appendf(nil, "extension of epoch %d", w.epoch)}
	return proposal{kind: setExtensions, extensions: w.ext, asPublic: w.coin()}
}

func (w *world) setExtensions(actor member) bool {
	p := w.newExtensions()
	o := w.options()
	if w.coin() {
		w.propose([]proposal{p})
	} else {
		o.proposals = []proposal{p}
	}
	w.commit(actor, o)
	return true
}

// everything puts all kinds of proposals into one Commit, some of them by
// reference, some by value.
func (w *world) everything(actor member) bool {
	gone := w.pick(not(actor), w.expendable)
	if gone == nil || len(w.members) <= minMembers || len(w.members) >= maxMembers {
		return false
	}
	joiners, list := w.newcomers(1)
	list = append(list, proposal{kind: remove, leaf: w.leaves[gone], asPublic: w.coin()}, w.newPSK(), w.newExtensions())
	if m := w.pick(not(actor, gone)); m != nil {
		w.proposeAs(proposal{kind: update, asPublic: w.coin()}, m)
	}
	w.rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	n := w.rand.IntN(len(list) + 1)
	w.propose(list[:n])
	o := w.options()
	o.proposals = list[n:]
	w.commit(actor, o, joiners...)
	return true
}

// askToJoin lets a newcomer of the actor's side propose itself from outside,
// and some member commit that.
func (w *world) askToJoin(actor member) bool {
	if len(w.members) >= maxMembers {
		return false
	}
	info, err := w.pick().groupInfo()
	w.check(err, "group info")
	m := w.client(actor.ours())
	asked, err := m.proposeSelf(info)
	w.check(err, "%s proposes itself", m.name())
	for _, o := range w.shuffled() {
		w.check(o.process(asked), "%s processes the proposal of %s, who is no member", o.name(), m.name())
	}
	w.commit(w.pick(), w.options(), m)
	return true
}

// joinExternal lets a newcomer of the actor's side join by an external Commit.
func (w *world) joinExternal(actor member) bool {
	if len(w.members) >= maxMembers {
		return false
	}
	info, err := w.pick().groupInfo()
	w.check(err, "group info")
	m := w.client(actor.ours())
	commit, err := m.joinExternal(info, nil)
	w.check(err, "%s makes an external commit", m.name())
	w.follow(m, commit, "external commit")
	w.members = append(w.members, m)
	w.agree()
	return true
}

// resync lets the actor replace its leaf by an external Commit.
func (w *world) resync(actor member) bool {
	info, err := w.pick(not(actor)).groupInfo()
	w.check(err, "group info")
	leaf := w.leaves[actor]
	commit, err := actor.joinExternal(info, &leaf)
	w.check(err, "%s makes an external commit", actor.name())
	delete(w.late, actor)
	w.follow(actor, commit, "external commit")
	w.agree()
	return true
}

// race lets two members commit in one epoch; the actor wins.
func (w *world) race(actor member) bool {
	loser := w.pick(not(actor))
	_, err := loser.commit(w.options())
	w.check(err, "%s commits", loser.name())
	out, err := actor.commit(w.options())
	w.check(err, "%s commits", actor.name())
	w.check(loser.drop(), "%s drops its commit", loser.name())
	w.follow(actor, out.commit, "commit")
	w.agree()
	return true
}
