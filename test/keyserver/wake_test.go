package keyserver

import (
	"context"
	"crypto/sha256"
	"errors"
	"testing"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/keyserver/keyclient"
	"github.com/cloudmls/gateway/test/postgres"
)

// slowPoll is how often a process looks by itself, without having been told.
const slowPoll = 20 * time.Second

// deliverTo creates a group whose first Commit goes to an account.
func deliverTo(ctx context.Context, c *keyclient.Client, from *person, to keyapi.Account) error {
	hash := sha256.Sum256(random(32))
	_, err := c.Tx(ctx, from.token, keyapi.Tx{Commit: &keyapi.CommitSubmission{
		Conversation: random(16), Kind: keyapi.KindGroup, Sender: from.account, Group: random(32), Create: true,
		TokenHash: hash[:], Commit: []byte("commit"), Recipients: []keyapi.Account{to},
	}})
	return err
}

// TestLongPollsWakeAcrossProcesses: a long-poll at one server process ends when
// something is posted at another one, on one PostgreSQL, and when its session is
// ended there; sooner than the process would look by itself.
func TestLongPollsWakeAcrossProcesses(t *testing.T) {
	db, err := postgres.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := newCluster(t, 2, envDSN+"="+db.DSN("postgres"))
	one, two := c.slots[0].client, c.slots[1].client
	alice, bob := newPerson(t, one, "alice"), newPerson(t, one, "bob")
	after := uint64(0)
	type answer struct {
		page keyapi.Deliveries
		err  error
	}
	// wait polls at one process until something comes, from the other.
	wait := func(post func() error) (answer, time.Duration) {
		t.Helper()
		got := make(chan answer, 1)
		go func() {
			page, err := one.Deliveries(t.Context(), bob.token, keyapi.DeliveryQuery{Account: bob.account, After: after, Wait: time.Minute})
			got <- answer{page, err}
		}()
		time.Sleep(300 * time.Millisecond) // until it waits; if it does not yet, it finds what was posted at once
		posted := time.Now()
		if err := post(); err != nil {
			t.Fatal(err)
		}
		select {
		case a := <-got:
			return a, time.Since(posted)
		case <-time.After(slowPoll * 3):
			t.Fatal("the long-poll was not woken at all")
			return answer{}, 0
		}
	}
	// What a notification tells comes at once, and a process looks by itself after
	// ten seconds in the mean: of five times, the machine may be busy at one.
	const rounds = 5
	late := 0
	for range rounds {
		a, took := wait(func() error { return deliverTo(t.Context(), two, alice, bob.account) })
		if a.err != nil || len(a.page.Messages) != 1 || a.page.Messages[0].Seq != after+1 {
			t.Fatalf("long-poll: %+v, %v", a.page, a.err)
		}
		after++
		if t.Logf("woken after %v", took); took > slowPoll/2 {
			late++
		}
	}
	if late > 1 {
		t.Errorf("%d of %d long-polls were not woken by what the other process did", late, rounds)
	}
	a, took := wait(func() error { return two.Logout(t.Context(), bob.token) })
	var problem *keyapi.Problem
	if !errors.As(a.err, &problem) || problem.Code != keyapi.CodeUnauthorized || took > 2*slowPoll {
		t.Errorf("after the logout at the other process: %v, after %v", a.err, took)
	}
}
