package cloudmls

import (
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
	// confirmAgain is when it asks again about one that it got no key for.
	confirmAgain = time.Hour
)

// confirmPins asks the key server, which is the Authentication Service (RFC
// 9420 section 5.3.1), whether the keys are the accounts' that others showed us
// in their groups: a leaf certificate alone is its maker's assertion, and any
// member could seat one in the name of somebody we have never met. wanted
// limits it to some accounts; nil means all. That the key server cannot tell is
// no error: the pins stay unconfirmed and their owners' messages unverified.
func (c *Client) confirmPins(ctx context.Context, self Account, wanted []Account) error {
	contacts, err := c.reader(ctx, self).contacts()
	if err != nil {
		return err
	}
	keys := map[Account][]byte{}
	for _, a := range contacts.toConfirm(wanted) {
		if len(keys) == confirmPage {
			break
		}
		if wanted == nil && !c.mayAsk(self, a) {
			continue
		}
		key, err := c.askIdentity(ctx, a)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.o.Logger.DebugContext(ctx, "identity key was not confirmed", slog.Any("err", err))
			var p *keyapi.Problem
			if !errors.As(err, &p) || p.Code == keyapi.CodeRateLimited {
				break
			}
			continue
		}
		if key != nil {
			keys[a] = key
		}
	}
	if len(keys) == 0 {
		return nil
	}
	return c.update(ctx, self, func(_ *state.Tx, v *view) error {
		contacts, err := v.contacts()
		if err != nil {
			return err
		}
		for a, key := range keys {
			if p := contacts.find(a); p != nil && p.Unconfirmed {
				p.confirm(key)
			}
		}
		return v.put(contactsKey(self), contacts)
	})
}

// askIdentity gives the key that the key server has for an account, nil if it
// knows no such account.
func (c *Client) askIdentity(ctx context.Context, a Account) ([]byte, error) {
	var r keyapi.Reachability
	err := c.store.Authorized(ctx, func(ctx context.Context, token string) (err error) {
		r, err = c.o.Server.Reachable(ctx, token, a)
		return err
	})
	if err != nil || !r.HasAccount || len(r.IdentityKey) != ed25519.PublicKeySize {
		return nil, err
	}
	return r.IdentityKey, nil
}

// mayAsk tells whether it is time to ask about an account, and notes that it
// was asked.
func (c *Client) mayAsk(self, a Account) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, name := c.now(), self.String()+"\x00"+a.String()
	if last, ok := c.asked[name]; ok && now.Sub(last) < confirmAgain {
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
		if p.Unconfirmed && (wanted == nil || slices.Contains(wanted, a)) {
			list = append(list, a)
		}
	}
	return list
}
