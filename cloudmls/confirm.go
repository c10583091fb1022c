package cloudmls

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/cloudmls/gateway/cloudmls/internal/state"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// confirmPage is how many accounts one Sync asks the key server about, besides
// those of which a rotation is known.
const confirmPage = 32

// confirmPins asks the key server, which is the Authentication Service (RFC
// 9420 section 5.3.1), whether the keys are the accounts' that others showed us
// in their groups: a leaf certificate alone is its maker's assertion, and any
// member could seat one in the name of somebody we have never met. That the key
// server cannot tell is no error: the pins stay unconfirmed and their owners'
// messages unverified.
//
// confirmPins is for accounts that the user writes to, whose keys are asked about
// whenever they are in doubt.
func (c *Client) confirmPins(ctx context.Context, self Account, wanted []Account) error {
	contacts, err := c.reader(ctx, self).contacts()
	if err != nil {
		return err
	}
	return c.askPins(ctx, self, contacts.toConfirm(wanted), func(*pinEntry) *budget { return nil })
}

// confirmSender is confirmPins for an account whose message under a key is being
// read: what is said of the message stays, so it is the question about this key that
// must be due, whichever other one somebody has shown since.
func (c *Client) confirmSender(ctx context.Context, self, sender Account, key []byte, contacts *contactsRecord) error {
	list := contacts.toConfirm([]Account{sender})
	for i, p := range list {
		if p.rotating() && !bytes.Equal(p.Key, key) {
			about := *p
			about.Next, list[i] = key, &about
		}
	}
	return c.askPins(ctx, self, c.asked.due(self, list, c.now()), c.asked.forReader)
}

// followPins is confirmPins for all accounts, a page at a time, rotations of known
// keys first.
func (c *Client) followPins(ctx context.Context, self Account) error {
	contacts, err := c.reader(ctx, self).contacts()
	if err != nil {
		return err
	}
	due := c.asked.due(self, contacts.toConfirm(nil), c.now())
	return c.askPins(ctx, self, c.asked.page(self, due), c.asked.forSync)
}

// askPins asks about the keys of some accounts while the budget of each lasts (nil:
// it does), and takes the key server's word.
func (c *Client) askPins(ctx context.Context, self Account, list []*pinEntry, budgetOf func(*pinEntry) *budget) error {
	named := map[Account]keyapi.Reachability{}
	var answered []*pinEntry
	note := func() { // when what was said is in the state: who reads meanwhile asks, too
		for _, p := range answered {
			c.asked.note(self, p, c.now())
		}
	}
	for _, p := range list {
		b := budgetOf(p)
		if !b.take(c.now()) {
			continue
		}
		answer, err := c.askAccount(ctx, p.account())
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var problem *keyapi.Problem
		switch {
		case err == nil && len(answer.IdentityKey) != 0:
			named[p.account()] = answer
		case err == nil:
		case !errors.As(err, &problem), problem.Status >= 500: // not answered
			b.giveBack()
		case problem.Code == keyapi.CodeRateLimited: // the rest is for what people ask for, and for rotations
			c.asked.syncing.spend(c.now())
			c.asked.reading.spend(c.now())
		}
		if err != nil {
			c.o.Logger.DebugContext(ctx, "identity key was not confirmed", slog.Any("err", err))
		}
		if err != nil && (problem == nil || problem.Status >= 500 || problem.Code == keyapi.CodeRateLimited) {
			break
		}
		answered = append(answered, p)
	}
	if len(named) == 0 {
		note()
		return nil
	}
	var changed []Account
	var released SyncResult
	err := c.update(ctx, self, func(_ *state.Tx, v *view) error {
		changed, released = nil, SyncResult{}
		contacts, err := v.contacts()
		if err != nil {
			return err
		}
		for a, answer := range named {
			p := contacts.find(a)
			if p == nil {
				continue
			}
			before := p.Key
			if p.heard(answer, c.now()); !bytes.Equal(before, p.Key) {
				changed = append(changed, a)
			}
		}
		slices.SortFunc(changed, compareAccounts)
		if err := v.put(contactsKey(self), contacts); err != nil {
			return err
		}
		for _, a := range changed { // Welcomes that were held back because of the key before
			if err := c.releaseHeld(v, a, &released); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	note()
	c.tellReleased(ctx, self, &released)
	if len(changed) > 0 {
		c.noteRotations(ctx, self)
	}
	return nil
}

// heard takes the key server's word on a pin that waits for it, or that a signed
// rotation leads away from, and tells whether the pin was rotated.
func (p *pinEntry) heard(answer keyapi.Reachability, now time.Time) bool {
	switch {
	case bytes.Equal(answer.IdentityKey, p.Key):
		if p.Unconfirmed {
			p.confirm(answer.IdentityKey)
		}
	case bytes.Equal(answer.IdentityKey, p.Next), keyapi.RotationLeads(answer.Rotations, p.Key):
		p.rotate(answer.IdentityKey, answer.Rotations, now)
		return true
	case p.Unconfirmed:
		p.confirm(answer.IdentityKey)
	}
	return false
}

// askAccount gives what the key server says of an account; without an identity
// key if it knows no such account. Rotations, where there are any, lead to that
// key.
func (c *Client) askAccount(ctx context.Context, a Account) (keyapi.Reachability, error) {
	var r keyapi.Reachability
	err := c.store.Authorized(ctx, func(ctx context.Context, token string) (err error) {
		r, err = c.o.Server.Reachable(ctx, token, a)
		return err
	})
	switch {
	case err != nil:
		return keyapi.Reachability{}, err
	case r.Account != a || r.HasAccount != (len(r.IdentityKey) == ed25519.PublicKeySize):
		return keyapi.Reachability{}, errors.New("the key server's answer does not fit the question")
	}
	if keyapi.VerifyRotations(a, r.Rotations, r.IdentityKey) != nil {
		r.Rotations = nil // they show nothing
	}
	return r, nil
}

// askIdentity gives the key that the key server has for an account, nil if it
// knows no such account.
func (c *Client) askIdentity(ctx context.Context, a Account) ([]byte, error) {
	r, err := c.askAccount(ctx, a)
	return r.IdentityKey, err
}

// doubtful is the key that waits for the key server's word.
func (p *pinEntry) doubtful() []byte {
	if p.Next != nil {
		return p.Next
	}
	return p.Key
}

// rotating tells whether a key that the key server has confirmed, or a person, signed a
// rotation that waits for the key server's word.
func (p *pinEntry) rotating() bool { return p.Next != nil && !p.Unconfirmed }

// doubts tells whether the key server's word can decide what a message under a key is
// worth: the pin waits for it, and the key is not one that was pinned before.
func (p *pinEntry) doubts(key []byte) bool {
	former := slices.ContainsFunc(p.Former, func(f formerKey) bool { return bytes.Equal(f.Key, key) })
	return p.Unconfirmed || p.Next != nil && !bytes.Equal(p.Key, key) && !former
}

// toConfirm lists the pins that are in doubt, of the accounts that are wanted;
// nil means all.
func (r *contactsRecord) toConfirm(wanted []Account) []*pinEntry {
	var list []*pinEntry
	for i := range r.Pins {
		p := &r.Pins[i]
		if (p.Unconfirmed || p.Next != nil) && (wanted == nil || slices.Contains(wanted, p.account())) {
			list = append(list, p)
		}
	}
	return list
}
