package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
)

// lookUpParallel is how many people are asked for at the key server at once.
const lookUpParallel = 8

// reachAge is how old the key server's word for a person may be with whom there
// is an encrypted dialog: that it still names the key that is pinned, no other
// answer is kept. An older one never leads to clear text, for decide needs no
// word of the key server to encrypt to them; and never to another key, for the
// message is encrypted to the dialog's group, whose members' keys are compared
// with the pinned ones each time. It only tells the user that much later that
// the person has a new key and may not be able to read.
const reachAge = 5 * time.Minute

// lookUp gathers what decide has to know of each person, in the order given,
// self left out. since is when work on the message began.
func (a *account) lookUp(ctx context.Context, people []string, since cloudmls.Moment) []recipient {
	answers := a.client.SyncedSince(a.self, since)
	var rs []recipient
	for _, id := range people {
		if id != a.self.ID {
			m, byRule := a.rules.mode(id)
			rs = append(rs, recipient{addr: id, mode: m, byRule: byRule})
		}
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, lookUpParallel)
	for i := range rs {
		if rs[i].mode == ModeNever && rs[i].byRule {
			continue // the user's rule needs no word of the key server
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			a.lookUpOne(ctx, &rs[i], answers)
		})
	}
	wg.Wait()
	return rs
}

// lookUpOne asks for one person. answers says that the key server answered for
// this very message: where it did not, nothing that it said before counts.
func (a *account) lookUpOne(ctx context.Context, r *recipient, answers bool) {
	dialog := groupid.Dialog(cloudmls.PlatformEmail, a.self.ID, r.addr)
	_, err := a.client.Conversation(ctx, a.self, dialog)
	switch {
	case err == nil:
		r.known = true
	case !errors.Is(err, cloudmls.ErrNoConversation):
		r.err = err
		return
	}
	age := time.Duration(0)
	if r.known && answers {
		age = reachAge
	}
	r.reach, r.err = a.client.ReachWithin(ctx, a.self, mailAccount(r.addr), age)
	if r.err == nil && r.reach.Changed {
		r.err = &cloudmls.IdentityChangedError{Account: mailAccount(r.addr), Pinned: r.reach.IdentityKey}
	}
}
