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

const (
	// confirmPage is how many accounts one Sync asks the key server about.
	confirmPage = 64
	// confirmAgain is when it asks again about a key that it got no word on.
	confirmAgain = time.Hour
)

// confirmPins asks the key server, which is the Authentication Service (RFC
// 9420 section 5.3.1), whether the keys are the accounts' that others showed us
// in their groups: a leaf certificate alone is its maker's assertion, and any
// member could seat one in the name of somebody we have never met. wanted
// limits it to some accounts; nil means all. That the key server cannot tell is
// no error: the pins stay unconfirmed and their owners' messages unverified.
func (c *Client) confirmPins(ctx context.Context, self Account, wanted []Account) error {
	_, err := c.followPins(ctx, self, wanted)
	return err
}

// followPins is confirmPins, and tells whose pins followed a signed rotation.
func (c *Client) followPins(ctx context.Context, self Account, wanted []Account) (rotated []Account, err error) {
	contacts, err := c.reader(ctx, self).contacts()
	if err != nil {
		return nil, err
	}
	named := map[Account]keyapi.Reachability{}
	for _, a := range contacts.toConfirm(wanted) {
		if len(named) == confirmPage {
			break
		}
		if wanted == nil && !c.mayAsk(self, a, contacts.find(a).doubtful()) {
			continue
		}
		answer, err := c.askAccount(ctx, a)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			c.o.Logger.DebugContext(ctx, "identity key was not confirmed", slog.Any("err", err))
			var p *keyapi.Problem
			if !errors.As(err, &p) || p.Code == keyapi.CodeRateLimited {
				break
			}
			continue
		}
		if len(answer.IdentityKey) != 0 {
			named[a] = answer
		}
	}
	if len(named) == 0 {
		return nil, nil
	}
	err = c.update(ctx, self, func(_ *state.Tx, v *view) error {
		rotated = nil
		contacts, err := v.contacts()
		if err != nil {
			return err
		}
		for a, answer := range named {
			if p := contacts.find(a); p != nil && p.heard(answer, c.now()) {
				rotated = append(rotated, a)
			}
		}
		slices.SortFunc(rotated, compareAccounts)
		if err := v.put(contactsKey(self), contacts); err != nil {
			return err
		}
		for _, a := range rotated { // Welcomes that were held back because of the change
			if err := c.releaseHeld(v, a); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return rotated, nil
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
		p.rotate(answer.IdentityKey, now)
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

// mayAsk tells whether it is time to ask whether a key is an account's, and notes
// that it was asked. What was said of the key before says nothing of another.
func (c *Client) mayAsk(self, a Account, key []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, name := c.now(), self.String()+"\x00"+a.String()+"\x00"+string(key)
	if last, ok := c.asked[name]; ok && now.Sub(last).Abs() < confirmAgain {
		return false
	}
	if len(c.asked) >= maxUnconfirmed {
		clear(c.asked)
	}
	c.asked[name] = now
	return true
}

func (r *contactsRecord) toConfirm(wanted []Account) []Account {
	var list []Account
	for i := range r.Pins {
		p := &r.Pins[i]
		a := Account{Platform: p.Platform, ID: p.ID}
		if (p.Unconfirmed || p.Next != nil) && (wanted == nil || slices.Contains(wanted, a)) {
			list = append(list, a)
		}
	}
	return list
}
