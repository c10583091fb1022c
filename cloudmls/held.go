package cloudmls

import (
	"context"
	"errors"
	"slices"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

const (
	maxHeld      = 16      // Welcomes kept for AcceptIdentity
	maxHeldOfOne = 4       // of them, for the identity of one account
	maxHeldSize  = 1 << 20 // octets of one, and of those for one account
	maxHeldTotal = 4 << 20 // octets of all: they lie in the inbox record, which must never outgrow the state
)

// hold keeps a Welcome until AcceptIdentity. The oldest make room, and are returned
// as Problems: those for the same account where it has its share, else those for the
// account that has the most. So whoever shows one new key after another under a name
// pushes out what waits under that name, and nothing that waits under others.
func (r *inboxRecord) hold(d *keyapi.Delivery, changed Account) []Problem {
	dropped := func(seq uint64, id []byte, sender Account) Problem {
		p := Problem{Seq: seq, Sender: sender, Kind: ProblemForbidden, Err: errNoHold}
		copy(p.Conversation[:], id)
		return p
	}
	if len(d.Message) > maxHeldSize {
		return []Problem{dropped(d.Seq, d.Conversation, d.Sender)}
	}
	var problems []Problem
	drop := func(a Account) {
		i := slices.IndexFunc(r.Held, func(h heldDelivery) bool { return h.Changed == a })
		h := r.Held[i]
		problems = append(problems, dropped(h.Seq, h.Conversation, h.Sender))
		r.Held = slices.Delete(r.Held, i, i+1)
	}
	for n, size := r.heldFor(changed); n >= maxHeldOfOne || n > 0 && size+len(d.Message) > maxHeldSize; n, size = r.heldFor(changed) {
		drop(changed)
	}
	for len(r.Held) >= maxHeld || len(r.Held) > 0 && r.heldSize()+len(d.Message) > maxHeldTotal {
		drop(r.mostHeld())
	}
	r.Held = append(r.Held, heldDelivery{
		Seq: d.Seq, Conversation: d.Conversation, Kind: d.Kind, Group: d.Group, Epoch: d.Epoch,
		Sender: d.Sender, Message: d.Message, Changed: changed,
	})
	return problems
}

// heldFor gives how many Welcomes are held for an account's identity, and how many
// octets they have.
func (r *inboxRecord) heldFor(a Account) (n, size int) {
	for i := range r.Held {
		if h := &r.Held[i]; h.Changed == a {
			n, size = n+1, size+len(h.Message)
		}
	}
	return n, size
}

// mostHeld gives the account that most octets are held for, each Welcome counted as
// at least its part of the room that there is; of several the one with the oldest.
// Something is held.
func (r *inboxRecord) mostHeld() Account {
	weight := map[Account]int{}
	for i := range r.Held {
		weight[r.Held[i].Changed] += max(len(r.Held[i].Message), maxHeldTotal/maxHeld)
	}
	most := r.Held[0].Changed
	for i := range r.Held {
		if a := r.Held[i].Changed; weight[a] > weight[most] {
			most = a
		}
	}
	return most
}

var errNoHold = errors.New("no room to hold the Welcome until the identity is accepted")

func (r *inboxRecord) heldSize() (n int) {
	for i := range r.Held {
		n += len(r.Held[i].Message)
	}
	return n
}

// releaseHeld processes the Welcomes that waited for an account's identity, once
// another key is pinned for it. It is part of the transaction that does that, after
// which tellReleased tells what came of it.
func (c *Client) releaseHeld(v *view, a Account, result *SyncResult) error {
	inbox, err := v.inbox()
	if err != nil {
		return err
	}
	kept := make([]heldDelivery, 0, len(inbox.Held))
	for _, h := range inbox.Held {
		if h.Changed != a {
			kept = append(kept, h)
			continue
		}
		d := &keyapi.Delivery{
			Seq: h.Seq, Type: keyapi.DeliveryWelcome, Conversation: h.Conversation, Kind: h.Kind,
			Group: h.Group, Epoch: h.Epoch, Sender: h.Sender, Message: h.Message,
		}
		err := v.attempt(result, func(child *view, part *SyncResult) error { return c.processWelcome(child, d, part) })
		var r *refusal
		switch {
		case err == nil:
		case errors.As(err, &r) && r.hold != nil:
			kept = append(kept, h) // for another key than the accepted one
		case errors.As(err, &r): // it became void meanwhile
		default:
			return err
		}
	}
	inbox.Held = kept
	return v.put(inboxKey(v.self), inbox)
}

// tellReleased notes what people are to be told of Welcomes that were released: such
// as that another group serves a conversation.
func (c *Client) tellReleased(ctx context.Context, self Account, result *SyncResult) {
	if err := c.keepNotices(ctx, self, result.Notices); err != nil {
		c.warn(ctx, "a notice was not noted", err)
	}
}
