package keyserver_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// F27: one Commit per epoch. All others get the winner.
func TestFlaw27_OneCommitPerEpoch(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	g := newGroup()
	alice.mustCommit(g, g.create(alice.account, "first", bob.account))
	for round := range 5 {
		var mu sync.Mutex
		var winner string
		var losers []*keyapi.Problem
		var wg sync.WaitGroup
		for i := range 8 {
			p := []*person{alice, bob}[i%2]
			message := fmt.Sprintf("round %d by %d", round, i)
			c := g.commit(p.account, message, alice.account, bob.account)
			wg.Go(func() {
				r, err := p.tx(keyapi.Tx{Commit: c, Put: []keyapi.Object{put(message, 1, "state")}})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					if winner != "" || r.Epoch != g.epoch+1 {
						t.Errorf("%q and %q both won epoch %d", winner, message, g.epoch)
					}
					winner = message
					return
				}
				problem, ok := err.(*keyapi.Problem)
				if !ok || problem.Code != keyapi.CodeEpochConflict {
					t.Errorf("loser: %v", err)
					return
				}
				losers = append(losers, problem)
			})
		}
		wg.Wait()
		if winner == "" || len(losers) != 7 {
			t.Fatalf("round %d: winner %q, %d losers", round, winner, len(losers))
		}
		for _, l := range losers {
			if l.Winner == nil || string(l.Winner.Message) != winner || l.Winner.Epoch != g.epoch+1 || !bytes.Equal(l.Winner.Group, g.id) {
				t.Errorf("loser was shown %+v, winner was %q", l.Winner, winner)
			}
			if l.Instance == nil || l.Instance.Epoch != g.epoch+1 {
				t.Errorf("loser was told %+v", l.Instance)
			}
		}
		g.epoch++
	}
	want := []string{"welcome of first"}
	for _, d := range bob.inbox(0)[1:] {
		want = append(want, string(d.Message))
	}
	if len(want) != 6 {
		t.Errorf("bob has %d messages, want a Welcome and five Commits", len(want))
	}
}

func TestFlaw27_OnlyMembersCanCommit(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob, mallory := w.person("alice"), w.person("bob"), w.person("mallory")
	g := newGroup()
	alice.mustCommit(g, g.create(alice.account, "first", bob.account))
	for name, token := range map[string][]byte{"no token": nil, "guess": random(32), "old token": g.token(0), "next token": g.token(2)} {
		c := g.commit(mallory.account, "burn the epoch", bob.account)
		c.Token = token
		_, err := mallory.tx(keyapi.Tx{Commit: c})
		if p, ok := err.(*keyapi.Problem); !ok || p.Code != keyapi.CodeForbidden || p.Winner != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := g.commit(bob.account, "second", alice.account, bob.account)
	bob.mustCommit(g, c)
	late := g.commit(mallory.account, "late")
	late.Epoch = 1
	_, err := mallory.tx(keyapi.Tx{Commit: late})
	if p := wantCode(t, err, keyapi.CodeEpochConflict); p.Winner != nil {
		t.Error("a stranger was shown the Commit")
	}
	future := g.commit(bob.account, "future")
	future.Epoch = 9
	_, err = bob.tx(keyapi.Tx{Commit: future})
	wantCode(t, err, keyapi.CodeInvalid)
}

// F28, server side: state and Commit are one step.
func TestFlaw28_StateAndCommitAreOneStep(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	g := newGroup()
	if _, err := alice.tx(keyapi.Tx{Put: []keyapi.Object{put("group", 1, "epoch 1")}, Commit: g.create(alice.account, "first", bob.account)}); err != nil {
		t.Fatal(err)
	}
	g.epoch = 1
	bob.mustCommit(g, g.commit(bob.account, "by bob", alice.account, bob.account))
	g.epoch = 1
	lost := keyapi.Tx{
		Put:    []keyapi.Object{put("group", 2, "epoch 2 that never was"), put("archive", 1, "of it")},
		Commit: g.commit(alice.account, "too late", alice.account, bob.account),
		Ack:    []keyapi.AckRequestFor{{Account: alice.account, Seq: 1}},
	}
	_, err := alice.tx(lost)
	wantCode(t, err, keyapi.CodeEpochConflict)
	if counter, data := alice.object(objectID("group")); counter != 1 || string(data) != "epoch 1" {
		t.Errorf("state moved without its Commit: %d %q", counter, data)
	}
	if counter, _ := alice.object(objectID("archive")); counter != 0 {
		t.Error("archive record of an epoch that never was")
	}
	wantMessages(t, alice.inbox(0), "first", "by bob") // and nothing acknowledged

	// The other way round: stale state keeps the Commit back.
	g.epoch = 2
	_, err = alice.tx(keyapi.Tx{Put: []keyapi.Object{put("group", 1, "stale")}, Commit: g.commit(alice.account, "third", bob.account)})
	wantCode(t, err, keyapi.CodeConflict)
	wantMessages(t, bob.inbox(0), "welcome of first", "by bob")
	_, err = alice.tx(keyapi.Tx{
		Put: []keyapi.Object{put("group", 2, "epoch 3")}, Commit: g.commit(alice.account, "third", bob.account),
		Ack: []keyapi.AckRequestFor{{Account: bob.account, Seq: 1}},
	})
	wantCode(t, err, keyapi.CodeForbidden) // a foreign inbox: nothing of it happens
	if counter, _ := alice.object(objectID("group")); counter != 1 {
		t.Error("state moved although the transaction was refused")
	}
	wantMessages(t, bob.inbox(0), "welcome of first", "by bob")
}

// Seed 0.5 and README section 4: only its people can name a dialog, and no
// group can sit on its id.
func TestSeedFlaw05_DialogBelongsToItsPair(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob, mallory := w.person("alice"), w.person("bob"), w.person("mallory")

	g := newDialog(alice.account, bob.account)
	c := g.create(mallory.account, "squat")
	_, err := mallory.tx(keyapi.Tx{Commit: c})
	wantCode(t, err, keyapi.CodeForbidden) // sender is none of the pair
	c.Pair = []keyapi.Account{mallory.account, bob.account}
	_, err = mallory.tx(keyapi.Tx{Commit: c})
	wantCode(t, err, keyapi.CodeForbidden) // id is not that of the pair
	c.Pair, c.Sender = g.pair, alice.account
	_, err = mallory.tx(keyapi.Tx{Commit: c})
	wantCode(t, err, keyapi.CodeForbidden) // not the caller's account
	c = g.create(mallory.account, "squat as a group")
	c.Kind, c.Pair, c.Group = keyapi.KindGroup, nil, random(32)
	if _, err = mallory.tx(keyapi.Tx{Commit: c}); err != nil {
		t.Fatal(err)
	}

	alice.mustCommit(g, g.create(alice.account, "hello", bob.account))
	for _, p := range []*person{alice, bob} {
		in, err := w.c.Instance(t.Context(), p.token(), g.conversation)
		if err != nil || in.Kind != keyapi.KindDialog || !bytes.Equal(in.Group, g.id) {
			t.Errorf("%s sees %+v, %v", p.name, in, err)
		}
	}
	in, err := w.c.Instance(t.Context(), mallory.token(), g.conversation)
	if err == nil && in.Kind != keyapi.KindGroup {
		t.Errorf("a stranger sees the dialog: %+v", in)
	}
	carol := newDialog(alice.account, mallory.account)
	_, err = w.c.Instance(t.Context(), bob.token(), carol.conversation)
	wantCode(t, err, keyapi.CodeNotFound)
}

func TestInstancesAreReplacedOnlyByName(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob, mallory := w.person("alice"), w.person("bob"), w.person("mallory")
	old := newDialog(alice.account, bob.account)
	alice.mustCommit(old, old.create(alice.account, "old", bob.account))

	fresh := newDialog(alice.account, bob.account)
	_, err := bob.tx(keyapi.Tx{Commit: fresh.create(bob.account, "new", alice.account)})
	p := wantCode(t, err, keyapi.CodeInstanceConflict)
	if p.Instance == nil || !bytes.Equal(p.Instance.Group, old.id) {
		t.Errorf("conflict names %+v", p.Instance)
	}
	c := fresh.create(bob.account, "new", alice.account)
	c.Replaces = old.id
	bob.mustCommit(fresh, c)
	_, err = alice.tx(keyapi.Tx{Commit: old.commit(alice.account, "in the old one", bob.account)})
	wantCode(t, err, keyapi.CodeInstanceConflict)
	back := old.create(alice.account, "back", bob.account) // a group_id serves once
	back.Epoch, back.Replaces = 0, fresh.id
	_, err = alice.tx(keyapi.Tx{Commit: back})
	wantCode(t, err, keyapi.CodeInstanceConflict)

	// A group is replaced only by somebody who shows its token.
	g := newGroup()
	alice.mustCommit(g, g.create(alice.account, "group", bob.account))
	next := newGroup()
	next.conversation = g.conversation
	take := next.create(mallory.account, "taken over", bob.account)
	take.Replaces, take.Token = g.id, random(32)
	_, err = mallory.tx(keyapi.Tx{Commit: take})
	wantCode(t, err, keyapi.CodeForbidden)
	take = next.create(bob.account, "by a member", alice.account)
	take.Replaces, take.Token = g.id, g.token(1)
	bob.mustCommit(next, take)
}

func TestGroupsMayBeginWithoutACommit(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice := w.person("alice")
	g := newGroup()
	c := g.create(alice.account, "")
	first := g.commit(alice.account, "first", alice.account)
	first.Token = []byte("token of epoch 0")
	hash := sha256Of(first.Token)
	c.Commit, c.Recipients, c.TokenHash = nil, nil, hash
	r, err := alice.tx(keyapi.Tx{Commit: c})
	if err != nil || r.Epoch != 0 {
		t.Fatalf("created: %+v, %v", r, err)
	}
	alice.mustCommit(g, first)
	wantMessages(t, alice.inbox(0), "first")
}

func TestSubmissionsOfImpossibleForm(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice := w.person("alice")
	bad := map[string]func(*keyapi.CommitSubmission){
		"short conversation":      func(c *keyapi.CommitSubmission) { c.Conversation = c.Conversation[:15] },
		"no group":                func(c *keyapi.CommitSubmission) { c.Group = nil },
		"long group":              func(c *keyapi.CommitSubmission) { c.Group = random(256) },
		"no token hash":           func(c *keyapi.CommitSubmission) { c.TokenHash = nil },
		"Welcome without joiners": func(c *keyapi.CommitSubmission) { c.Welcome = []byte("w") },
		"joiners without Welcome": func(c *keyapi.CommitSubmission) { c.Joiners = []keyapi.Account{alice.account} },
		"created late":            func(c *keyapi.CommitSubmission) { c.Epoch = 1 },
		"no Commit, recipients":   func(c *keyapi.CommitSubmission) { c.Commit = nil },
		"no such kind":            func(c *keyapi.CommitSubmission) { c.Kind = 9 },
		"group with a pair":       func(c *keyapi.CommitSubmission) { c.Pair = []keyapi.Account{alice.account} },
		"dialog with oneself": func(c *keyapi.CommitSubmission) {
			c.Kind, c.Pair = keyapi.KindDialog, []keyapi.Account{alice.account, alice.account}
		},
		"replaces and continues": func(c *keyapi.CommitSubmission) { c.Create, c.Replaces = false, random(32) },
		"no such recipient":      func(c *keyapi.CommitSubmission) { c.Recipients = []keyapi.Account{{Platform: "email"}} },
	}
	for name, change := range bad {
		g := newGroup()
		c := g.create(alice.account, "first")
		change(c)
		_, err := alice.tx(keyapi.Tx{Commit: c})
		if p, ok := err.(*keyapi.Problem); !ok || p.Code != keyapi.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A notice reaches people of the instance and changes nothing.
func TestNoticesOpenNoEpoch(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob, mallory := w.person("alice"), w.person("bob"), w.person("mallory")
	g := newDialog(alice.account, bob.account)
	alice.mustCommit(g, g.create(alice.account, "first", bob.account))
	notice := func(sender keyapi.Account, to ...keyapi.Account) *keyapi.CommitSubmission {
		return &keyapi.CommitSubmission{
			Conversation: g.conversation, Kind: g.kind, Pair: g.pair, Sender: sender, Group: g.id, Epoch: 1,
			Notice: []byte("I lost track"), Recipients: to,
		}
	}
	r, err := bob.tx(keyapi.Tx{Put: []keyapi.Object{put("asked", 1, "yes")}, Commit: notice(bob.account, alice.account)})
	if err != nil || r.Epoch != 1 {
		t.Fatalf("notice: %+v, %v", r, err)
	}
	if _, data := bob.object(objectID("asked")); string(data) != "yes" {
		t.Error("the state that goes with the notice is missing")
	}
	wantMessages(t, alice.inbox(0), "first", "I lost track")
	if d := alice.inbox(0)[1]; d.Type != keyapi.DeliveryNotice || d.Epoch != 1 || d.Sender != bob.account || !bytes.Equal(d.Group, g.id) {
		t.Errorf("delivered %+v", d)
	}
	bob.mustCommit(g, g.commit(bob.account, "second", alice.account)) // the epoch is still free

	late := notice(bob.account, alice.account)
	late.Epoch = 3
	_, err = bob.tx(keyapi.Tx{Commit: late})
	wantCode(t, err, keyapi.CodeInvalid)
	_, err = mallory.tx(keyapi.Tx{Commit: notice(mallory.account, alice.account)})
	wantCode(t, err, keyapi.CodeForbidden) // none of the pair
	_, err = mallory.tx(keyapi.Tx{Commit: notice(alice.account, bob.account)})
	wantCode(t, err, keyapi.CodeForbidden) // not the caller's account
	_, err = bob.tx(keyapi.Tx{Commit: notice(bob.account, mallory.account)})
	wantCode(t, err, keyapi.CodeForbidden) // a dialog's notices stay in it
	other := notice(bob.account, alice.account)
	other.Group = random(32)
	_, err = bob.tx(keyapi.Tx{Commit: other})
	wantCode(t, err, keyapi.CodeInstanceConflict)
	nowhere := notice(bob.account, alice.account)
	nowhere.Kind, nowhere.Pair, nowhere.Conversation = keyapi.KindGroup, nil, random(16)
	_, err = bob.tx(keyapi.Tx{Commit: nowhere})
	wantCode(t, err, keyapi.CodeNotFound)
	for name, change := range map[string]func(*keyapi.CommitSubmission){
		"with a Commit":   func(c *keyapi.CommitSubmission) { c.Commit = []byte("c") },
		"with a Welcome":  func(c *keyapi.CommitSubmission) { c.Welcome, c.Joiners = []byte("w"), c.Recipients },
		"with a token":    func(c *keyapi.CommitSubmission) { c.TokenHash = random(32) },
		"that creates":    func(c *keyapi.CommitSubmission) { c.Create = true },
		"for nobody":      func(c *keyapi.CommitSubmission) { c.Recipients = nil },
		"of no group":     func(c *keyapi.CommitSubmission) { c.Group = nil },
		"of half an id":   func(c *keyapi.CommitSubmission) { c.Conversation = c.Conversation[:8] },
		"from half a man": func(c *keyapi.CommitSubmission) { c.Sender = keyapi.Account{Platform: "email"} },
	} {
		c := notice(bob.account, alice.account)
		change(c)
		if _, err := bob.tx(keyapi.Tx{Commit: c}); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			wantCode(t, err, keyapi.CodeInvalid)
		}
	}
	huge := notice(bob.account, alice.account)
	huge.Notice = make([]byte, keyapi.MaxNoticeSize+1)
	_, err = bob.tx(keyapi.Tx{Commit: huge})
	wantCode(t, err, keyapi.CodeTooLarge)
}
