package keyserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
)

// How much goes on at once. More makes the search for an order longer.
const (
	pairs, pairWorkers   = 2, 3
	groups, groupWorkers = 2, 3
	claimers             = 3
	poolSize             = 100
)

// load is a world of people, objects, groups and a pool, and what happened to it.
type load struct {
	t       *testing.T
	c       *cluster
	h       *history
	people  []*person
	groups  []*group
	pool    [][]byte
	last    []byte
	models  map[string]porcupine.Model
	stop    context.Context // when to begin nothing new
	workers sync.WaitGroup
	clients int
}

// newLoad registers people at a cluster that nobody disturbs yet.
func newLoad(t *testing.T, c *cluster, round int) *load {
	t.Helper()
	l := &load{t: t, c: c, h: newHistory(), models: map[string]porcupine.Model{}}
	for i := range 3 {
		l.people = append(l.people, newPerson(t, c.slots[0].client, fmt.Sprintf("person%d-%d", round, i)))
	}
	for range groups {
		l.groups = append(l.groups, newGroup())
	}
	owner := l.people[2]
	for range poolSize {
		l.pool = append(l.pool, owner.keyPackage(t, false))
	}
	l.last = owner.keyPackage(t, true)
	up := keyapi.KeyPackageUpload{KeyPackages: l.pool, LastResort: l.last}
	if _, err := c.slots[0].client.UploadKeyPackages(t.Context(), owner.token, owner.account, up); err != nil {
		t.Fatal(err)
	}
	return l
}

// run keeps all workers busy until stop ends, and returns when each has its
// last answer: servers must be up again by then.
func (l *load) run(stop context.Context) {
	l.stop = stop
	for i := range pairs {
		thing := fmt.Sprint("objects ", i)
		l.models[thing] = pairModel()
		for range pairWorkers {
			l.work(func(id int, r *rand.Rand) { l.changePair(thing, id, r) })
		}
	}
	for i := range l.groups {
		thing := fmt.Sprint("group ", i)
		l.models[thing] = groupModel()
		for range groupWorkers {
			l.work(func(id int, r *rand.Rand) { l.commit(thing, l.groups[i], id, r) })
		}
	}
	for i, p := range l.people {
		thing := fmt.Sprint("inbox ", i)
		l.models[thing] = inboxModel()
		l.work(func(id int, r *rand.Rand) { l.read(thing, p, id, r) })
	}
	l.models["pool"] = poolModel(poolSize)
	for range claimers {
		l.work(func(id int, r *rand.Rand) { l.claim(id, r) })
	}
	l.workers.Wait()
}

// work repeats do in a goroutine, with short rests.
func (l *load) work(do func(id int, r *rand.Rand)) {
	id := l.clients
	l.clients++
	r := rand.New(rand.NewPCG(uint64(id), uint64(time.Now().UnixNano())))
	l.workers.Go(func() {
		for l.stop.Err() == nil {
			do(id, r)
			pause(l.stop, time.Duration(5+r.IntN(40))*time.Millisecond)
		}
	})
}

func (l *load) fail(what string, err error) {
	if err != nil {
		l.t.Errorf("%s: %v", what, err)
	}
}

// changePair reads two objects and writes the next version of both, or, now and
// then, one that is not due.
func (l *load) changePair(thing string, id int, r *rand.Rand) {
	p := l.people[0]
	a, b := objectID(thing+" a"), objectID(thing+" b")
	call := l.h.now()
	var got [2]pairState
	list, err := l.c.any(r).Objects(l.t.Context(), p.token, []keyapi.ObjectID{a, b})
	if notAnswered(err) {
		return
	}
	l.fail("read objects", err)
	for _, o := range list.Objects {
		i := 0
		if o.ID == b {
			i = 1
		}
		got[i] = pairState{o.Counter, string(o.Data)}
	}
	if got[0] == got[1] {
		l.h.add(thing, id, call, readPair{}, got[0])
	} else {
		l.h.add(thing, id, call, readPair{}, torn{got[0], got[1]})
	}
	next := pairState{got[0].counter + 1, fmt.Sprint(id, "/", call)}
	if r.IntN(8) == 0 {
		next.counter += uint64(r.IntN(2)) // too late or too early
	}
	tx := keyapi.Tx{Nonce: random(8), Put: []keyapi.Object{
		{ID: a, Counter: next.counter, Data: []byte(next.value)}, {ID: b, Counter: next.counter, Data: []byte(next.value)},
	}}
	call = l.h.now()
	err = insist(l.t.Context(), l.c, r, func(c *keyclient.Client) error {
		_, err := c.Tx(l.t.Context(), p.token, tx)
		return err
	})
	var problem *keyapi.Problem
	switch {
	case err == nil:
		l.h.add(thing, id, call, putPair{next}, nil)
	case errors.As(err, &problem) && problem.Code == keyapi.CodeConflict && len(problem.Have) == 2:
		if problem.Have[0].Counter != problem.Have[1].Counter {
			l.t.Errorf("counters of a pair differ: %v", problem.Have)
		}
		l.h.add(thing, id, call, putPair{next}, refused{problem.Have[0].Counter})
	default:
		l.fail("write objects", err)
	}
}

// commit asks for the epoch and commits in it, to all people.
func (l *load) commit(thing string, g *group, id int, r *rand.Rand) {
	p := l.people[id%2]
	call := l.h.now()
	in, err := l.c.any(r).Instance(l.t.Context(), p.token, g.conversation)
	if notAnswered(err) {
		return
	}
	if keyclient.IsCode(err, keyapi.CodeNotFound) {
		err = nil
	}
	l.fail("read epoch", err)
	l.h.add(thing, id, call, readEpoch{}, in.Epoch)

	text := fmt.Sprintf("%s/%d/%d", strings.ReplaceAll(thing, " ", ""), id, call)
	var to []keyapi.Account
	for i := range l.people {
		to = append(to, l.people[(i+id)%len(l.people)].account)
	}
	tx := keyapi.Tx{Commit: g.commit(p.account, in.Epoch, text, to), Nonce: random(8)}
	call = l.h.now()
	err = insist(l.t.Context(), l.c, r, func(c *keyclient.Client) error {
		_, err := c.Tx(l.t.Context(), p.token, tx)
		return err
	})
	var problem *keyapi.Problem
	switch {
	case err == nil:
		l.h.add(thing, id, call, commitOne{in.Epoch, text}, nil)
		for i := range l.people {
			l.h.add(fmt.Sprint("inbox ", i), id, call, deliverOne{text}, nil)
		}
	case errors.As(err, &problem) && problem.Instance != nil:
		out := commitTaken{current: problem.Instance.Epoch}
		if problem.Winner != nil {
			out.winner = string(problem.Winner.Message)
		}
		l.h.add(thing, id, call, commitOne{in.Epoch, text}, out)
	default:
		l.fail("commit", err)
	}
}

// read reads a whole inbox, and now and then acknowledges a part of it.
func (l *load) read(thing string, p *person, id int, r *rand.Rand) {
	call := l.h.now()
	d, err := l.c.any(r).Deliveries(l.t.Context(), p.token, keyapi.DeliveryQuery{Account: p.account, Limit: keyapi.MaxDeliveries})
	if notAnswered(err) {
		return
	}
	l.fail("read inbox", err)
	var texts []string
	epochs := map[string]uint64{}
	for _, m := range d.Messages {
		texts = append(texts, fmt.Sprint(m.Seq, "=", string(m.Message)))
		if before, known := epochs[string(m.Group)]; known && m.Epoch != before+1 {
			l.t.Errorf("%s: epoch %d of a group behind %d", thing, m.Epoch, before)
		}
		epochs[string(m.Group)] = m.Epoch
	}
	l.h.add(thing, id, call, readInbox{}, page{strings.Join(texts, " "), int(d.Last)})
	if len(d.Messages) < 5 || r.IntN(3) > 0 && len(d.Messages) < 100 {
		return
	}
	seq := d.Messages[r.IntN(len(d.Messages))].Seq
	call = l.h.now()
	err = insist(l.t.Context(), l.c, r, func(c *keyclient.Client) error { return c.Ack(l.t.Context(), p.token, p.account, seq) })
	l.fail("acknowledge", err)
	l.h.add(thing, id, call, ackUntil{int(seq)}, nil)
}

func (l *load) claim(id int, r *rand.Rand) {
	call := l.h.now()
	got, err := l.c.any(r).ClaimKeyPackage(l.t.Context(), l.people[0].token, l.people[2].account)
	if notAnswered(err) {
		l.h.unknown("pool", id, call, claimOne{}, claimLost{})
		return
	}
	l.fail("claim", err)
	n := -1
	for i, kp := range l.pool {
		if bytes.Equal(kp, got.KeyPackage) {
			n = i
		}
	}
	if n == -1 && !bytes.Equal(got.KeyPackage, l.last) {
		l.t.Error("a KeyPackage that nobody uploaded")
	}
	l.h.add("pool", id, call, claimOne{}, claimed{n})
	pause(l.stop, time.Duration(r.IntN(400))*time.Millisecond) // the pool is to last for a while
}
