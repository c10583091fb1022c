package cloudmls

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"time"

	"github.com/cloudmls/gateway/keyserver/keyapi"
)

const (
	// maxPins bounds one account's contacts record.
	maxPins = 32_000
	// maxUnconfirmed bounds the pins that others cause by the groups that they
	// invite us to.
	maxUnconfirmed = 4096
	// maxLearned bounds the keys that an account is known to have replaced before it was
	// first seen here.
	maxLearned = 4
)

var errNoRoom = errors.New("no room to pin another contact")

func (p *pinEntry) account() Account { return Account{Platform: p.Platform, ID: p.ID} }

func (r *contactsRecord) find(a Account) *pinEntry {
	for i := range r.Pins {
		if p := &r.Pins[i]; p.ID == a.ID && p.Platform == a.Platform {
			return p
		}
	}
	return nil
}

// note pins the key of an account seen for the first time, and remembers that
// a known one changed. confirmed says that the key server handed the key out as
// the account's. It tells whether the record changed.
func (r *contactsRecord) note(m memberEntry, confirmed bool, now time.Time) bool {
	a, key := m.account(), m.IdentityKey
	p := r.find(a)
	switch {
	case p == nil && len(r.Pins) < maxPins && (confirmed || r.unconfirmed() < maxUnconfirmed):
		r.Pins = append(r.Pins, pinEntry{
			Platform: a.Platform, ID: a.ID, Key: bytes.Clone(key), Since: now.UnixMilli(), Unconfirmed: !confirmed,
		})
		r.Pins[len(r.Pins)-1].learn(m.rotations)
		return true
	case p == nil:
		return false
	case p.Unconfirmed && confirmed && !keyapi.RotationLeads(m.rotations, p.Key):
		p.confirm(key)
		p.learn(m.rotations)
		return true
	case bytes.Equal(p.Key, key):
		return p.learn(m.rotations)
	case bytes.Equal(p.Next, key) && !confirmed, bytes.Equal(p.Changed, key), p.retired(key):
		return false
	case keyapi.RotationLeads(m.rotations, p.Key):
		if confirmed {
			p.rotate(key, m.rotations, now)
		} else {
			p.Next = bytes.Clone(key)
		}
		return true
	default:
		p.Changed = bytes.Clone(key)
		return true
	}
}

// learn takes over which keys the account replaced before it was seen here, from the
// certificate of a leaf that shows the pinned key, which vouches for that. They were
// never pinned, so they are good for nothing; but what still shows one is older than
// the rotation, and no change to be accepted. It tells whether the pin changed.
func (p *pinEntry) learn(chain []keyapi.Rotation) bool {
	var learned []formerKey
	for _, r := range chain[max(0, len(chain)-maxLearned):] {
		if !p.retired(r.Previous) {
			learned = append(learned, formerKey{Key: bytes.Clone(r.Previous), Rotated: true})
		}
	}
	if len(learned) == 0 || len(p.Former)+len(learned) > maxFormer {
		return false
	}
	p.Former = append(learned, p.Former...)
	if p.retired(p.Changed) {
		p.Changed = nil
	}
	return true
}

func (r *contactsRecord) unconfirmed() (n int) {
	for i := range r.Pins {
		if r.Pins[i].Unconfirmed {
			n++
		}
	}
	return n
}

// confirm takes the key server's word for the account's key. Another key that
// somebody showed in a group stays noted as a changed one.
func (p *pinEntry) confirm(key []byte) {
	if !bytes.Equal(p.Key, key) {
		// Where a rotation of the key before leads says nothing of this one: what
		// somebody showed for a key of their own must not be followed from here.
		p.Changed, p.Next, p.Former = p.Key, nil, nil
	} else if bytes.Equal(p.Changed, key) {
		p.Changed = nil
	}
	p.Key, p.Unconfirmed, p.Verified = bytes.Clone(key), false, 0
}

// check compares a key with the pin; an account without one passes.
func (r *contactsRecord) check(a Account, key []byte) error {
	p := r.find(a)
	if p == nil || bytes.Equal(p.Key, key) {
		return nil
	}
	return &IdentityChangedError{
		Account: a, Pinned: bytes.Clone(p.Key), Key: bytes.Clone(key), Verified: p.Verified != 0,
		Retired: p.retired(key), Rotated: bytes.Equal(p.Next, key),
	}
}

// checkFollowing is checkRoster for whoever will ask the key server next: a key
// that a signed rotation of the pinned one leads to passes.
func (r *contactsRecord) checkFollowing(list []memberEntry) error {
	for _, m := range list {
		p := r.find(m.account())
		if p != nil && keyapi.RotationLeads(m.rotations, p.Key) {
			continue
		}
		if err := r.check(m.account(), m.IdentityKey); err != nil {
			return err
		}
	}
	return nil
}

// checkRoster finds the first member of a conversation that this account is in whose
// key is not the pinned one. What the roster shows was noted when it was entered, so a
// key that nobody is to decide about any more can be told from one that is new.
func (r *contactsRecord) checkRoster(list []memberEntry) error {
	for _, m := range list {
		err := r.check(m.account(), m.IdentityKey)
		var changed *IdentityChangedError
		if errors.As(err, &changed) {
			changed.Settled = r.find(m.account()).settledAgainst(m.IdentityKey)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// noteChanged remembers a key that a Welcome waits for.
func (v *view) noteChanged(e *IdentityChangedError) error {
	contacts, err := v.contacts()
	if err != nil {
		return err
	}
	if p := contacts.find(e.Account); p != nil {
		p.Changed = bytes.Clone(e.Key)
	}
	return v.put(contactsKey(v.self), contacts)
}

// pinRoster notes every member of a roster but self. It is part of each
// transaction that opens an epoch, so that reading never has to write.
func (v *view) pinRoster(list []memberEntry, now time.Time) error {
	contacts, err := v.contacts()
	if err != nil {
		return err
	}
	changed := false
	for _, m := range list {
		if a := m.account(); a != v.self {
			changed = contacts.note(m, v.vouched[a], now) || changed
			if v.vouched[a] && contacts.find(a) == nil {
				return errNoRoom
			}
		}
	}
	if !changed {
		return nil
	}
	slices.SortFunc(contacts.Pins, func(a, b pinEntry) int {
		return compareAccounts(Account{Platform: a.Platform, ID: a.ID}, Account{Platform: b.Platform, ID: b.ID})
	})
	return v.put(contactsKey(v.self), contacts)
}

// accept makes key the pinned one, which nobody has compared; the one before
// stays good for what was sent until now.
func (p *pinEntry) accept(key []byte, now time.Time) {
	if len(p.Key) > 0 && !bytes.Equal(p.Key, key) {
		p.Former = boundFormer(append(p.Former, formerKey{Key: p.Key, Until: now.UnixMilli()}))
	}
	if !bytes.Equal(p.Key, key) {
		p.Verified, p.Compared, p.Rotated = 0, 0, 0
	}
	p.Key, p.Changed, p.Next, p.Accepted, p.Unconfirmed = bytes.Clone(key), nil, nil, now.UnixMilli(), false
}

// maxFormer is how many earlier keys of an account are remembered.
const maxFormer = 64

// boundFormer forgets the oldest.
func boundFormer(list []formerKey) []formerKey { return list[max(0, len(list)-maxFormer):] }

// rotate follows a signed rotation that the key server has confirmed, along a
// chain that was verified. Whoever had the key before could sign it, so what people
// compared does not carry over. Keys that came between, while nobody here looked,
// are as good as the one before.
func (p *pinEntry) rotate(key []byte, chain []keyapi.Rotation, now time.Time) {
	former := [][]byte{p.Key}
	if i := slices.IndexFunc(chain, func(r keyapi.Rotation) bool { return bytes.Equal(r.Previous, p.Key) }); i >= 0 {
		for _, r := range chain[i+1:] {
			former = append(former, r.Previous)
		}
	}
	for _, k := range former {
		p.Former = append(p.Former, formerKey{Key: k, Until: now.UnixMilli(), Rotated: true})
	}
	p.Former = boundFormer(p.Former)
	if bytes.Equal(p.Changed, key) || p.retired(p.Changed) {
		p.Changed = nil
	}
	p.Compared = cmp.Or(p.Verified, p.Compared)
	p.Key, p.Next, p.Verified, p.Unconfirmed, p.Rotated = bytes.Clone(key), nil, 0, false, now.UnixMilli()
}

// retired tells whether the owner of the account has replaced this key.
func (p *pinEntry) retired(key []byte) bool { return p.retiredAt(key) >= 0 }

// retiredAt gives the place in Former of a key that the owner of the account has
// replaced, later ones behind earlier ones; -1: it is none.
func (p *pinEntry) retiredAt(key []byte) int {
	for i, f := range slices.Backward(p.Former) {
		if f.Rotated && bytes.Equal(f.Key, key) {
			return i
		}
	}
	return -1
}

// vouches tells whether key was the account's in an epoch that began at opened; see
// formerKey.counts.
func (p *pinEntry) vouches(key []byte, opened time.Time, entered func() (time.Time, error)) (bool, error) {
	if bytes.Equal(p.Key, key) {
		return true, nil
	}
	return formerCounts(p.Former, key, opened, entered)
}
