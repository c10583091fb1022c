package proxy

import (
	"context"
	"errors"
	"sync"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/groupid"
)

// lookUpParallel is how many people are asked for at the key server at once.
const lookUpParallel = 8

// lookUp gathers what decide has to know of each person, in the order given,
// self left out.
func (a *account) lookUp(ctx context.Context, people []string) []recipient {
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
			a.lookUpOne(ctx, &rs[i])
		})
	}
	wg.Wait()
	return rs
}

func (a *account) lookUpOne(ctx context.Context, r *recipient) {
	dialog := groupid.Dialog(cloudmls.PlatformEmail, a.self.ID, r.addr)
	_, err := a.client.Conversation(ctx, a.self, dialog)
	switch {
	case err == nil:
		r.known = true
	case !errors.Is(err, cloudmls.ErrNoConversation):
		r.err = err
		return
	}
	r.reach, r.err = a.client.Reach(ctx, a.self, mailAccount(r.addr))
	if r.err == nil && r.reach.Changed {
		r.err = &cloudmls.IdentityChangedError{Account: mailAccount(r.addr), Pinned: r.reach.IdentityKey}
	}
}
