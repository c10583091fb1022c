package cloudmls

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
	"github.com/cloudmls/gateway/mls"
)

const (
	// askAgain is how long a member who lost track of a group waits before it
	// asks the others again.
	askAgain = 24 * time.Hour
	// turnStep is how long each member leaves the work to the one before it:
	// all hear of a wish at the same time, and one Commit is enough.
	turnStep = time.Minute
	maxTurn  = time.Hour
	// mendBackOff is how long what failed is left alone.
	mendBackOff = time.Hour
	// mendAtOnce bounds what one Sync looks at.
	mendAtOnce = 64
	// maxTodo bounds the list; what does not fit is done when somebody writes.
	maxTodo = 10_000
)

// mend does what waits in the account's conversations: it asks to be let in
// again where this account lost track, asks again to be removed where another
// Commit was faster, and does what members ask for. It is no part of the Sync's
// success: what fails is tried again by a later one.
func (c *Client) mend(ctx context.Context, self Account) {
	inbox, err := c.reader(ctx, self).inbox()
	if err != nil {
		c.warn(ctx, "conversations were not mended", err)
		return
	}
	var done []ConversationID
	looked := inbox.Todo[:min(len(inbox.Todo), mendAtOnce)]
	for _, id := range looked {
		if ctx.Err() != nil {
			break
		}
		finished, err := c.mendOne(ctx, self, id)
		if err != nil {
			c.warn(ctx, "a conversation was not mended", err)
		}
		if finished {
			done = append(done, id)
		}
	}
	if len(done) == 0 && len(looked) == len(inbox.Todo) {
		return
	}
	err = c.update(ctx, self, func(_ *state.Tx, v *view) error {
		inbox, err := v.inbox()
		if err != nil {
			return err
		}
		rest := slices.DeleteFunc(inbox.Todo, func(id ConversationID) bool { return slices.Contains(looked, id) })
		for _, id := range looked { // the others have their turn first
			if !slices.Contains(done, id) {
				rest = append(rest, id)
			}
		}
		inbox.Todo = rest
		return v.put(inboxKey(self), inbox)
	})
	if err != nil {
		c.warn(ctx, "what was mended is not noted", err)
	}
}

// remember adds conversations to what mend looks at.
func (r *inboxRecord) remember(ids []ConversationID) {
	for _, id := range ids {
		if !slices.Contains(r.Todo, id) && len(r.Todo) < maxTodo {
			r.Todo = append(r.Todo, id)
		}
	}
}

// remind makes mend look at a conversation.
func (v *view) remind(id ConversationID) error {
	inbox, err := v.inbox()
	if err != nil {
		return err
	}
	inbox.remember([]ConversationID{id})
	return v.put(inboxKey(v.self), inbox)
}

// mendOne does what waits in one conversation; finished says that nothing does
// any more.
func (c *Client) mendOne(ctx context.Context, self Account, id ConversationID) (finished bool, err error) {
	unlock, err := c.locks.lock(ctx, conversationLock(self, id))
	if err != nil {
		return false, err
	}
	defer unlock()
	conv, err := c.reader(ctx, self).conversation(id)
	if err != nil {
		return false, fmt.Errorf("conversation: %w", err)
	}
	switch {
	case conv == nil, conv.Removed != 0, conv.Broken != "" && conv.Kind == KindSelf:
		return true, nil
	case conv.Broken != "" && conv.Left != 0: // to be let in again is not what it wants
		return false, c.proposeLeaving(ctx, self, id)
	case conv.Broken != "":
		if c.sinceMilli(conv.Asked) >= askAgain {
			err = c.askToRejoin(ctx, self, conv)
		}
		return false, err
	case conv.Left != 0:
		if conv.LeftEpoch < conv.Epoch {
			err = c.proposeLeaving(ctx, self, id)
		}
		return false, err
	case len(conv.Wishes) == 0:
		return true, nil
	case c.sinceMilli(conv.Wishes[0].At) < turn(self, conv), c.restsFrom(self, id):
		return false, nil
	}
	_, err = c.commit(ctx, self, id, c.grant(ctx, self))
	if err != nil {
		c.rest(self, id, err)
	}
	return false, err // the next look sees whether something is left
}

func (c *Client) sinceMilli(ms int64) time.Duration {
	d := c.now().Sub(time.UnixMilli(ms))
	if d < 0 {
		return maxTurn + askAgain // a clock that was set back makes nobody wait
	}
	return d
}

// turn is how long this account leaves what members wish to others. Who comes
// first differs from epoch to epoch.
func turn(self Account, conv *conversationRecord) time.Duration {
	var able []Account
	for _, m := range conv.Members {
		a := m.account()
		if !slices.ContainsFunc(conv.Wishes, func(w wishEntry) bool { return w.account() == a }) {
			able = append(able, a)
		}
	}
	i := slices.Index(able, self)
	if i < 0 {
		return 0
	}
	rank := (uint64(i) + conv.Epoch) % uint64(len(able))
	return min(time.Duration(rank)*turnStep, maxTurn)
}

// rest and restsFrom keep what failed from being tried again and again: each try
// may use up a KeyPackage of somebody whose inbox stays full for weeks.
func (c *Client) rest(self Account, id ConversationID, failed error) {
	pause := mendBackOff
	if undeliverable(failed) {
		pause = askAgain
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.resting) >= maxTodo {
		clear(c.resting)
	}
	c.resting[conversationLock(self, id)] = c.now().Add(pause)
}

func (c *Client) restsFrom(self Account, id ConversationID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.resting[conversationLock(self, id)]
	left := until.Sub(c.now())
	return ok && left > 0 && left <= askAgain // more: the clock was set back
}

// grant plans a Commit that does what members ask for: it removes those who want
// to leave, and lets in again those who lost track, by removing the leaf that
// they cannot use any more and adding a new one. Who has no usable KeyPackage
// stays as they are. The plan never fails for one of them alone.
func (c *Client) grant(ctx context.Context, self Account) func(*conversationRecord) (*change, error) {
	claimed := map[Account]*mls.KeyPackage{}
	tried := map[Account]bool{}
	return func(conv *conversationRecord) (*change, error) {
		ch := &change{add: map[Account]*mls.KeyPackage{}}
		for _, w := range conv.Wishes {
			a := w.account()
			m, ok := rosterFind(conv.Members, a)
			if !ok || a == self {
				continue
			}
			if w.Leave {
				ch.remove = append(ch.remove, a)
				continue
			}
			if !tried[a] {
				tried[a] = true
				kp, err := c.claimAgain(ctx, self, m, conv.suite())
				if err != nil {
					c.warn(ctx, "a member was not let in again", err)
					c.rest(self, conv.ID, err)
				}
				claimed[a] = kp
			}
			if kp := claimed[a]; kp != nil {
				ch.add[a] = kp
				ch.remove = append(ch.remove, a)
			}
		}
		if len(ch.remove) == 0 {
			return nil, nil
		}
		return ch, nil
	}
}

// claimAgain takes a KeyPackage for a member: of the very identity that is in
// the group, or one that it has rotated to.
func (c *Client) claimAgain(ctx context.Context, self Account, m memberEntry, cs mls.CipherSuite) (*mls.KeyPackage, error) {
	a := m.account()
	claimed := map[Account]*mls.KeyPackage{}
	if err := c.claimAll(ctx, self, []Account{a}, claimed, cs); err != nil {
		return nil, err
	}
	cert, err := leafCertificate(claimed[a].Credential(), claimed[a].SignatureKey())
	if err != nil {
		return nil, &BadKeyPackageError{Account: a, Err: err}
	}
	if string(cert.IdentityKey) != string(m.IdentityKey) && !keyapi.RotationLeads(cert.Rotations, m.IdentityKey) {
		return nil, &IdentityChangedError{Account: a, Pinned: m.IdentityKey, Key: cert.IdentityKey}
	}
	return claimed[a], nil
}
