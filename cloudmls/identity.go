package cloudmls

import (
	"bytes"
	"time"

	"github.com/cloudmls/gateway/mls"
)

// is tells whether key is the account's identity key.
func (r *identityRecord) is(key []byte) bool { return bytes.Equal(r.public(), key) }

// owned tells whether key was the account's in an epoch that began at opened; see
// formerKey.counts.
func (r *identityRecord) owned(key []byte, opened time.Time, entered func() (time.Time, error)) (bool, error) {
	if r.is(key) {
		return true, nil
	}
	return formerCounts(r.Former, key, opened, entered)
}

// outdated tells whether the account's leaf among members was made before the
// account's keys were replaced: it shows another identity key, or one that had to
// stay.
func (v *view) outdated(members []mls.Member) (bool, error) {
	id := &identityRecord{}
	if ok, err := v.read(identityKey(v.self), id); err != nil || !ok {
		return false, err
	}
	list, err := v.certs.roster(members)
	if err != nil {
		return false, err
	}
	m, ok := rosterFind(list, v.self)
	return ok && (!id.is(m.IdentityKey) || id.Taken != 0), nil
}
