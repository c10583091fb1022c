//go:build crashpoints && weakkdf

package model

import (
	"context"
	"maps"

	"github.com/cloudmls/gateway/cloudmls"
	"github.com/cloudmls/gateway/keyserver"
)

// watch notes whose true keys a device has pinned, and fails where it takes another
// one for such a key, or shows one of the thief's as compared.
func (l *liar) watch(d *device) {
	if d.client == nil {
		return
	}
	l.listen(d)
	l.remembers(d)
	list, err := d.client.Contacts(context.Background(), d.u.self)
	if err != nil {
		return // it reads nothing now
	}
	seen := map[cloudmls.Account]bool{}
	for _, k := range list {
		seen[k.Account] = true
		forged := l.thief.forged[string(k.IdentityKey)]
		switch {
		case forged && d.knows[k.Account] != "":
			l.w.fail("%s: the key of %v, which it had pinned, was replaced by the thief's", d.name, k.Account)
		case forged && (k.State == cloudmls.ContactVerified || !k.VerifiedAt.IsZero()):
			l.w.fail("%s: the thief's key for %v is verified", d.name, k.Account)
		case forged:
			l.w.counts["pinned the thief"]++
		case d.forked: // people in that world may have replaced their keys there
		case !l.isOf(k.Account, k.IdentityKey):
			l.w.fail("%s: has pinned a key of %v that nobody has", d.name, k.Account)
		case k.Confirmed:
			d.knows[k.Account] = string(k.IdentityKey)
		}
	}
	for a := range d.knows {
		if !seen[a] {
			l.w.fail("%s: has forgotten the key of %v", d.name, a)
		}
	}
}

// isOf tells whether an account has, or had, this identity key.
func (l *liar) isOf(a cloudmls.Account, key []byte) (yes bool) {
	err := l.w.store.View(context.Background(), func(r keyserver.Reader) error {
		have, err := r.Account(a)
		if err != nil || have == nil {
			return err
		}
		yes = string(have.IdentityKey) == string(key)
		for _, s := range have.Rotations {
			yes = yes || string(s.Previous) == string(key)
		}
		return nil
	})
	if err != nil {
		l.w.fail("%v: %v", a, err)
	}
	return yes
}

// pinned is the key that a device has pinned for an account.
func (d *device) pinned(c *cloudmls.Client, a cloudmls.Account) []byte {
	k, _, err := c.Pinned(context.Background(), d.u.self, a)
	if err != nil {
		return nil
	}
	return k
}

// verify has two people compare their codes: by the keys that they have, whatever the
// key server says.
func (w *world) verify(f *frame) {
	c := f.running(context.Background())
	if c == nil {
		return
	}
	for _, a := range w.others(f) {
		key := w.trueKey(a)
		if key == nil {
			continue
		}
		f.check("verify", c.VerifyKey(context.Background(), f.d.u.self, a, key), cloudmls.ErrCodeMismatch, cloudmls.ErrNoContact)
	}
}

// trueKey is the identity key of an account, as its owner has it.
func (w *world) trueKey(a cloudmls.Account) (key []byte) {
	err := w.store.View(context.Background(), func(r keyserver.Reader) error {
		have, err := r.Account(a)
		if err == nil && have != nil {
			key = have.IdentityKey
		}
		return err
	})
	if err != nil {
		w.fail("%v: %v", a, err)
	}
	return key
}

// knew is what a device knows of people when it writes.
func (d *device) knew() map[cloudmls.Account]string { return maps.Clone(d.knows) }
