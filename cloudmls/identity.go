package cloudmls

import (
	"bytes"
	"slices"
	"time"

	"github.com/cloudmls/gateway/mls"
)

// is tells whether key is the account's identity key.
func (r *identityRecord) is(key []byte) bool { return bytes.Equal(r.public(), key) }

// owned tells whether key was the account's in an epoch that began at opened.
func (r *identityRecord) owned(key []byte, opened time.Time) bool {
	return r.is(key) || slices.ContainsFunc(r.Former, func(f formerKey) bool { return f.counts(key, opened) })
}

// counts tells whether this key was good in an epoch that began at opened. When
// the epoch began, and when its key was replaced, devices with clocks of their own
// may have noted: a key that its owner replaced counts for an hour longer, which
// gives a thief of it the epochs of that hour until the owner's Commits end them.
// Where somebody accepted another key, only what came before counts.
func (f formerKey) counts(key []byte, opened time.Time) bool {
	if f.Rotated {
		opened = opened.Add(-clockSkew)
	}
	return bytes.Equal(f.Key, key) && opened.UnixMilli() <= f.Until
}

// outdated tells whether the account's leaf among members was made before the
// account's keys were replaced: it shows another identity key, or one that had to
// stay.
func (v *view) outdated(members []mls.Member) (bool, error) {
	id := &identityRecord{}
	if ok, err := v.read(identityKey(v.self), id); err != nil || !ok {
		return false, err
	}
	list, err := roster(members)
	if err != nil {
		return false, err
	}
	m, ok := rosterFind(list, v.self)
	return ok && (!id.is(m.IdentityKey) || id.Taken != 0), nil
}
