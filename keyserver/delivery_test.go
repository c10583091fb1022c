package keyserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/keyserver/keyservertest"
)

// F25 and seed 0.8: reading removes nothing. Only an acknowledgement does, up to
// where it says.
func TestFlaw25_DeliveryKeepsUntilAcknowledged(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	g := newGroup()
	alice.mustCommit(g, g.create(alice.account, "one", bob.account))
	alice.mustCommit(g, g.commit(alice.account, "two", alice.account, bob.account))
	alice.mustCommit(g, g.commit(alice.account, "three", alice.account, bob.account))
	for range 3 {
		wantMessages(t, bob.inbox(0), "welcome of one", "two", "three")
	}
	wantMessages(t, bob.inbox(2), "three")
	wantMessages(t, bob.inbox(3))
	wantMessages(t, bob.inbox(^uint64(0)))

	if err := w.c.Ack(t.Context(), bob.token(), bob.account, 1); err != nil {
		t.Fatal(err)
	}
	wantMessages(t, bob.inbox(0), "two", "three")
	wantMessages(t, alice.inbox(0), "one", "two", "three") // others keep theirs
	if err := w.c.Ack(t.Context(), bob.token(), bob.account, 1); err != nil {
		t.Errorf("acknowledged again: %v", err)
	}
	wantCode(t, w.c.Ack(t.Context(), bob.token(), bob.account, 4), keyapi.CodeInvalid)
	wantCode(t, w.c.Ack(t.Context(), alice.token(), bob.account, 3), keyapi.CodeForbidden)
	wantMessages(t, bob.inbox(0), "two", "three")
	if _, err := bob.tx(keyapi.Tx{Ack: []keyapi.AckRequestFor{{Account: bob.account, Seq: 3}}}); err != nil {
		t.Fatal(err)
	}
	wantMessages(t, bob.inbox(0))
	alice.mustCommit(g, g.commit(alice.account, "four", bob.account))
	if got := bob.inbox(3); len(got) != 1 || got[0].Seq != 4 {
		t.Errorf("after all was acknowledged: %+v", got)
	}
}

func TestSeedFlaw08_LostAnswerLosesNoMessage(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	g := newGroup()
	alice.mustCommit(g, g.create(alice.account, "one", bob.account))
	for range 10 { // readers who give up in the middle
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := w.c.Deliveries(ctx, bob.token(), keyapi.DeliveryQuery{Account: bob.account})
		if !errors.Is(err, keyclient.ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Fatalf("cancelled read: %v", err)
		}
	}
	wantMessages(t, bob.inbox(0), "welcome of one")
	w.Close()
	again := keyservertest.NewServer(t, keyservertest.Options{Path: w.Path, Server: keyserver.Options{Now: w.clock.now}})
	d, err := again.Client().Deliveries(t.Context(), bob.token(), keyapi.DeliveryQuery{Account: bob.account})
	if err != nil {
		t.Fatal(err)
	}
	wantMessages(t, d.Messages, "welcome of one")
}

// F26: Commit and Welcome of one transaction arrive in this order, all of them,
// once, and in the same order in every inbox.
func TestFlaw26_BatchIsAtomicAndOrdered(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob, carol := w.person("alice"), w.person("bob"), w.person("carol")
	g := newGroup()
	alice.mustCommit(g, g.create(alice.account, "one", bob.account))
	c := g.commit(alice.account, "two", alice.account, bob.account, bob.account, carol.account)
	c.Welcome, c.Joiners = []byte("welcome two"), []keyapi.Account{carol.account, carol.account}
	alice.mustCommit(g, c)
	wantMessages(t, alice.inbox(0), "one", "two")
	wantMessages(t, bob.inbox(0), "welcome of one", "two")
	wantMessages(t, carol.inbox(0), "two", "welcome two")

	// One bad recipient at the end: nobody gets anything, the epoch stays.
	c = g.commit(alice.account, "three", alice.account, bob.account)
	c.Welcome, c.Joiners = []byte("w"), []keyapi.Account{carol.account, {Platform: "email", ID: "nobody@example.org"}}
	_, err := alice.tx(keyapi.Tx{Put: []keyapi.Object{put("x", 1, "state")}, Commit: c})
	wantCode(t, err, keyapi.CodeNoAccount)
	wantMessages(t, bob.inbox(0), "welcome of one", "two")
	wantMessages(t, carol.inbox(0), "two", "welcome two")
	in, err := w.c.Instance(t.Context(), alice.token(), g.conversation)
	if err != nil || in.Epoch != 2 {
		t.Errorf("instance: %+v, %v", in, err)
	}
}

func TestFlaw26_ConcurrentSendersKeepOneOrder(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	const groups, commits = 6, 8
	var wg sync.WaitGroup
	for i := range groups {
		wg.Go(func() {
			g := newGroup()
			for n := range commits {
				c := g.commit(alice.account, fmt.Sprintf("%d/%d", i, n), alice.account, bob.account)
				c.Create = n == 0
				if _, err := alice.tx(keyapi.Tx{Commit: c}); err != nil {
					t.Errorf("group %d commit %d: %v", i, n, err)
					return
				}
				g.epoch++
			}
		})
	}
	wg.Wait()
	a, b := alice.inbox(0), bob.inbox(0)
	if len(a) != groups*commits || len(b) != len(a) {
		t.Fatalf("%d and %d messages, want %d", len(a), len(b), groups*commits)
	}
	next := map[string]uint64{}
	for i := range a {
		if a[i].Seq != uint64(i+1) || !bytes.Equal(a[i].Message, b[i].Message) {
			t.Fatalf("message %d: seq %d, %q and %q", i, a[i].Seq, a[i].Message, b[i].Message)
		}
		group := string(a[i].Group)
		if next[group]++; a[i].Epoch != next[group] {
			t.Fatalf("message %d opens epoch %d, want %d", i, a[i].Epoch, next[group])
		}
	}
}

func TestLongPollWakesOnDelivery(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	got := make(chan keyapi.Deliveries)
	failed := make(chan error, 1)
	go func() {
		d, err := w.c.Deliveries(t.Context(), bob.token(), keyapi.DeliveryQuery{Account: bob.account, Wait: time.Minute})
		failed <- err
		got <- d
	}()
	w.awaitPolls(1)
	g := newGroup()
	alice.mustCommit(g, g.create(alice.account, "one", bob.account))
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	wantMessages(t, (<-got).Messages, "welcome of one")
}

func TestLongPollEndsWithServerSessionAndContext(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	bob := w.person("bob")
	other, err := bob.login(newKey(), bob.auth)
	if err != nil {
		t.Fatal(err)
	}
	poll := func(ctx context.Context, token string) chan error {
		done := make(chan error, 1)
		go func() {
			_, err := w.c.Deliveries(ctx, token, keyapi.DeliveryQuery{Account: bob.account, Wait: time.Minute})
			done <- err
		}()
		return done
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := poll(ctx, bob.token())
	w.awaitPolls(1)
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	w.awaitPolls(0)
	second := poll(t.Context(), other.AccessToken)
	w.awaitPolls(1)
	if err := w.c.Logout(t.Context(), other.AccessToken); err != nil {
		t.Fatal(err)
	}
	wantCode(t, <-second, keyapi.CodeUnauthorized)
	w.awaitPolls(0)
	third := poll(t.Context(), bob.token())
	w.awaitPolls(1)
	if err := w.Handler.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-third; err != nil {
		t.Errorf("server closes: %v", err)
	}
}

func TestInboxOfAnotherIsClosed(t *testing.T) {
	w := newWorld(t, keyserver.Options{})
	alice, bob := w.person("alice"), w.person("bob")
	_, err := w.c.Deliveries(t.Context(), alice.token(), keyapi.DeliveryQuery{Account: bob.account})
	wantCode(t, err, keyapi.CodeForbidden)
	_, err = w.c.KeyPackageCount(t.Context(), alice.token(), bob.account)
	wantCode(t, err, keyapi.CodeForbidden)
	g := newGroup()
	_, err = alice.tx(keyapi.Tx{Commit: g.create(bob.account, "in bob's name")})
	wantCode(t, err, keyapi.CodeForbidden)
}

// F21: nobody fills another's inbox alone.
func TestFlaw21_OneSenderCannotFillAnInbox(t *testing.T) {
	l := keyservertest.Unlimited()
	l.InboxFrom, l.Inbox = 3, 20
	w := newWorld(t, keyserver.Options{Limits: l})
	bob := w.person("bob")
	send := func(p *person) error {
		g := newGroup()
		c := g.commit(p.account, "m", bob.account)
		c.Create = true
		_, err := p.tx(keyapi.Tx{Commit: c})
		return err
	}
	mallory, alice := w.person("mallory"), w.person("alice")
	for range 3 {
		if err := send(mallory); err != nil {
			t.Fatal(err)
		}
	}
	wantCode(t, send(mallory), keyapi.CodeQuota)
	if err := send(alice); err != nil {
		t.Errorf("another sender: %v", err)
	}
	if err := w.c.Ack(t.Context(), bob.token(), bob.account, 3); err != nil {
		t.Fatal(err)
	}
	if err := send(mallory); err != nil {
		t.Errorf("after acknowledgement: %v", err)
	}
}
