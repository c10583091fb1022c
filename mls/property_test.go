package mls

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestRandomHistories lets groups live at random over a delivery service that
// orders Commits, and delays, duplicates and reorders everything: members agree
// on every epoch, each reads all messages of the epochs it was in, and none of
// any other, neither when they come early nor when they come late.
func TestRandomHistories(t *testing.T) {
	type history struct {
		suite          CipherSuite
		members, steps int
		seed           uint64
	}
	list := []history{
		{1, 2, 250, 1}, {1, 3, 250, 2}, {1, 5, 200, 3}, {1, 8, 200, 4}, {1, 13, 150, 5}, {1, 24, 100, 6}, {1, 40, 60, 7}, {1, 64, 50, 8},
	}
	for i, cs := range CipherSuites()[1:] {
		list = append(list, history{cs, 3 + i%3, 40, uint64(100 + i)})
	}
	for _, h := range list {
		t.Run(fmt.Sprintf("suite %#04x, %d members", uint16(h.suite), h.members), func(t *testing.T) {
			t.Parallel()
			d := newDelivery(t, h.suite, h.members, h.seed)
			for range h.steps {
				d.step()
			}
			d.finish()
		})
	}
}

// parcel is a message on its way; number is that of an application message.
type parcel struct {
	message *Message
	number  int
}

// actor is one client, in the group or not any more.
type actor struct {
	name    string
	group   *Group
	records map[Epoch]*ArchiveRecord // of the epochs that it was in
	inbox   []parcel
	read    map[int]bool
}

// delivery is a delivery service with all of its clients.
type delivery struct {
	t      *testing.T
	rnd    *rand.Rand
	suite  CipherSuite
	actors []*actor
	epoch  Epoch              // Commits to it are accepted, one
	views  map[Epoch][]byte   // epoch authenticator and an exported secret
	roster map[Epoch][]Member // as the first one to enter saw it
	sent   []parcel           // application messages, by number
	sender []string
	counts map[string]int
}

func newDelivery(t *testing.T, cs CipherSuite, n int, seed uint64) *delivery {
	d := &delivery{
		t: t, rnd: rand.New(rand.NewPCG(seed, 42)), suite: cs,
		views: map[Epoch][]byte{}, roster: map[Epoch][]Member{}, counts: map[string]int{},
	}
	g := newGroup(t, "actor 0", func(o *GroupOptions) { o.CipherSuite = cs })
	d.actors = []*actor{{name: "actor 0", group: g, records: map[Epoch]*ArchiveRecord{}, read: map[int]bool{}}}
	d.enter(d.actors[0])
	d.commit(d.actors[0], CommitOptions{}, n-1)
	return d
}

func (d *delivery) newActor(g *Group, name string) *actor {
	a := &actor{name: name, group: g, records: map[Epoch]*ArchiveRecord{}, read: map[int]bool{}}
	for _, p := range d.sent { // what was sent before reaches it too
		if d.rnd.IntN(4) == 0 {
			a.inbox = append(a.inbox, p)
		}
	}
	d.actors = append(d.actors, a)
	d.enter(a)
	return a
}

// enter checks that a has the same view of its epoch as all others, and keeps
// what reading it takes.
func (d *delivery) enter(a *actor) {
	d.t.Helper()
	g := a.group
	if g.Left() {
		return
	}
	exported, err := g.Export("property", []byte("test"), 16)
	if err != nil {
		d.t.Fatal(err)
	}
	view := append(g.EpochAuthenticator(), exported...)
	if have := d.views[g.Epoch()]; have == nil {
		d.views[g.Epoch()], d.roster[g.Epoch()] = view, g.Members()
	} else if !bytes.Equal(have, view) {
		d.t.Fatalf("%s has another view of epoch %d", a.name, g.Epoch())
	}
	r, err := g.Archive()
	if err != nil {
		d.t.Fatal(err)
	}
	a.records[g.Epoch()] = r
	if d.rnd.IntN(3) == 0 {
		a.group = stored(d.t, g)
	}
	a.group.SetExternalCommits(true)
	a.group.SetPSKs(func(PreSharedKeyID) ([]byte, error) { return []byte("shared"), nil })
}

// broadcast puts a message into all inboxes but its sender's, sometimes twice.
func (d *delivery) broadcast(from *actor, p parcel) {
	for _, a := range d.actors {
		if a == from {
			continue
		}
		a.inbox = append(a.inbox, p)
		if d.rnd.IntN(6) == 0 {
			a.inbox = append(a.inbox, p)
		}
	}
}

// commit lets a commit and add some new clients, if its Commit is the first one
// of the epoch.
func (d *delivery) commit(a *actor, o CommitOptions, add int) {
	d.t.Helper()
	var secrets []*KeyPackageSecrets
	o.Now = testNow
	for range add {
		kp, s := newKeyPackage(d.t, fmt.Sprintf("actor %d", len(d.actors)+len(secrets)), ofSuite(d.suite))
		o.Add, secrets = append(o.Add, kp), append(secrets, s)
	}
	o.Select = chosen
	o.Public = d.rnd.IntN(4) == 0
	at := a.group.Epoch()
	p, err := a.group.Commit(o)
	if err != nil {
		d.t.Fatalf("%s commits: %v", a.name, err)
	}
	if at != d.epoch { // lost: somebody else was first
		d.counts["lost"]++
		return
	}
	d.epoch++
	d.counts["committed"]++
	d.broadcast(a, parcel{wire(d.t, p.Commit), -1})
	if err := a.group.Merge(p.Staged); err != nil {
		d.t.Fatal(err)
	}
	d.enter(a)
	for i, s := range secrets {
		g, err := JoinWelcome(wire(d.t, p.Welcome), JoinOptions{Secrets: s, Validate: acceptNamed, PSKs: a.group.psks})
		if err != nil {
			d.t.Fatal(err)
		}
		d.newActor(g, string(o.Add[i].Credential().Identity))
	}
}

// members are the actors that have not learnt that they were removed.
func (d *delivery) members() (list []*actor) {
	for _, a := range d.actors {
		if !a.group.Left() {
			list = append(list, a)
		}
	}
	return list
}

func (d *delivery) step() {
	d.t.Helper()
	members := d.members()
	a := members[d.rnd.IntN(len(members))]
	others := a.group.Members()
	victim := others[d.rnd.IntN(len(others))].Leaf
	switch k := d.rnd.IntN(14); {
	case k < 4:
		d.send(a)
	case k < 6:
		d.commit(a, CommitOptions{WithoutPath: d.rnd.IntN(3) == 0}, 0)
	case k == 6 && len(others) < 64:
		d.commit(a, CommitOptions{}, 1+d.rnd.IntN(2))
	case k == 7 && victim != a.group.OwnLeaf() && len(others) > 2:
		d.commit(a, CommitOptions{Remove: []LeafIndex{victim}}, 0)
	case k == 8:
		m, err := a.group.ProposeUpdate(UpdateOptions{})
		d.proposed(a, m, err)
	case k == 9 && victim != a.group.OwnLeaf() && len(others) > 2:
		m, err := a.group.Propose(&Remove{Removed: victim}, ProposeOptions{Public: d.rnd.IntN(2) == 0})
		d.proposed(a, m, err)
	case k == 10:
		id := PreSharedKeyID{Type: PSKExternal, ID: []byte("x"), Nonce: randomBytes(a.group.suite.Nh)}
		m, err := a.group.Propose(&PreSharedKey{ID: id}, ProposeOptions{})
		d.proposed(a, m, err)
	case k == 11 && len(others) < 64:
		d.joinExternally(a)
	}
	for range 3 + d.rnd.IntN(2*len(d.actors)) {
		b := d.actors[d.rnd.IntN(len(d.actors))]
		if n := len(b.inbox); n > 0 {
			d.receive(b, d.rnd.IntN(n))
		}
	}
}

func (d *delivery) proposed(a *actor, m *Message, err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatalf("%s proposes: %v", a.name, err)
	}
	d.counts["proposed"]++
	d.broadcast(a, parcel{wire(d.t, m), -1})
}

func (d *delivery) send(a *actor) {
	d.t.Helper()
	number := len(d.sent)
	m, err := a.group.Protect(fmt.Append(nil, number), ProtectOptions{})
	if errors.Is(err, ErrCommitRequired) {
		return
	}
	if err != nil {
		d.t.Fatalf("%s sends: %v", a.name, err)
	}
	p := parcel{wire(d.t, m), number}
	d.sent, d.sender = append(d.sent, p), append(d.sender, a.name)
	d.broadcast(a, p)
}

func (d *delivery) joinExternally(a *actor) {
	d.t.Helper()
	if a.group.Epoch() != d.epoch {
		return
	}
	info, err := a.group.GroupInfo()
	if err != nil {
		d.t.Fatal(err)
	}
	name := fmt.Sprintf("actor %d", len(d.actors))
	j, err := JoinExternal(ExternalJoinOptions{
		GroupInfo: wire(d.t, info), Credential: NewBasicCredential([]byte(name)), SignatureKey: newKeyOf(d.t, d.suite), Validate: acceptNamed,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	d.epoch++
	d.counts["joined"]++
	d.broadcast(nil, parcel{wire(d.t, j.Commit), -1})
	d.newActor(j.Group, name)
}

// receive lets a take the message at the given place of its inbox; what it
// cannot handle yet stays there.
func (d *delivery) receive(a *actor, at int) {
	d.t.Helper()
	p := a.inbox[at]
	var done bool
	if p.number >= 0 {
		done = d.receiveText(a, p)
	} else {
		done = d.receiveHandshake(a, p)
	}
	if done {
		a.inbox[at] = a.inbox[len(a.inbox)-1]
		a.inbox = a.inbox[:len(a.inbox)-1]
	}
}

func (d *delivery) receiveHandshake(a *actor, p parcel) (done bool) {
	d.t.Helper()
	r, err := a.group.Process(p.message, testNow)
	switch {
	case errors.Is(err, ErrFutureEpoch), errors.Is(err, ErrUnknownProposal):
		return false
	case errors.Is(err, ErrStaleEpoch), errors.Is(err, ErrReplayed):
		return true
	case errors.Is(err, ErrNotMember) && a.group.Left():
		return true
	case err != nil:
		d.t.Fatalf("%s in epoch %d: %v", a.name, a.group.Epoch(), err)
	}
	if c, ok := r.(*ReceivedCommit); ok {
		if err := a.group.Merge(c.Staged); err != nil {
			d.t.Fatal(err)
		}
		d.enter(a)
		if c.SelfRemoved {
			d.counts["removed"]++
		}
	}
	return true
}

func (d *delivery) receiveText(a *actor, p parcel) (done bool) {
	d.t.Helper()
	_, epoch, _ := p.message.Group()
	record, was := a.records[epoch]
	live := !a.group.Left() && epoch == a.group.Epoch()
	if !live && !was {
		if !a.group.Left() && epoch > a.group.Epoch() {
			return false // its time may come
		}
		d.cannotRead(a, p)
		return true
	}
	var app *Application
	var err error
	if live && d.rnd.IntN(4) > 0 {
		var r Received
		r, err = a.group.Process(p.message, testNow)
		if errors.Is(err, ErrReplayed) && a.read[p.number] {
			d.counts["replayed"]++
			return true
		}
		if err == nil {
			app = r.(*Application)
		}
	} else {
		app, err = record.Open(p.message)
		d.counts["opened late"]++
	}
	if err != nil {
		d.t.Fatalf("%s cannot read message %d of epoch %d: %v", a.name, p.number, epoch, err)
	}
	if string(app.Plaintext) != fmt.Sprint(p.number) || string(app.Credential.Identity) != d.sender[p.number] {
		d.t.Fatalf("%s reads %q by %q as message %d", a.name, app.Plaintext, app.Credential.Identity, p.number)
	}
	a.read[p.number] = true
	return true
}

// cannotRead tries all that a has on a message of an epoch that a was not in.
func (d *delivery) cannotRead(a *actor, p parcel) {
	d.t.Helper()
	d.counts["unreadable"]++
	if _, err := a.group.Process(p.message, testNow); err == nil {
		d.t.Fatalf("%s reads message %d of an epoch that it was not in", a.name, p.number)
	}
	for epoch, record := range a.records {
		if _, err := record.Open(p.message); err == nil {
			d.t.Fatalf("%s opens message %d with its record of epoch %d", a.name, p.number, epoch)
		}
		forged := *p.message.private
		forged.epoch = epoch
		if _, err := record.Open(&Message{wireFormat: WirePrivateMessage, private: &forged}); err == nil {
			d.t.Fatalf("%s opens message %d under the number of epoch %d", a.name, p.number, epoch)
		}
	}
}

// finish delivers everything, and checks who read what.
func (d *delivery) finish() {
	d.t.Helper()
	for _, a := range d.actors {
		for progress := true; progress && len(a.inbox) > 0; {
			before := len(a.inbox)
			for at := len(a.inbox) - 1; at >= 0; at-- {
				d.receive(a, at)
			}
			progress = len(a.inbox) < before
		}
		if len(a.inbox) > 0 {
			d.t.Fatalf("%s in epoch %d of %d cannot handle %d messages", a.name, a.group.Epoch(), d.epoch, len(a.inbox))
		}
		if !a.group.Left() && a.group.Epoch() != d.epoch {
			d.t.Errorf("%s stays in epoch %d of %d", a.name, a.group.Epoch(), d.epoch)
		}
	}
	for _, p := range d.sent {
		_, epoch, _ := p.message.Group()
		in := map[string]bool{}
		for _, m := range d.roster[epoch] {
			in[string(m.Credential.Identity)] = true
		}
		for _, a := range d.actors {
			if want := in[a.name] && a.name != d.sender[p.number]; a.read[p.number] != want {
				d.t.Errorf("%s, message %d of epoch %d: read %v, want %v", a.name, p.number, epoch, a.read[p.number], want)
			}
		}
	}
	d.t.Logf("%d epochs, %d clients, %d messages: %v", d.epoch, len(d.actors), len(d.sent), d.counts)
	if d.epoch < 5 || len(d.sent) < 4 {
		d.t.Error("too little happened")
	}
}
