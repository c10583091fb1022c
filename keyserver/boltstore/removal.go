package boltstore

import (
	"bytes"
	"fmt"

	"github.com/cloudmls/gateway/keyserver"
	"github.com/cloudmls/gateway/keyserver/keyapi"
)

// Users lists users behind a name.
func (t *tx) Users(after string, limit int) ([]keyserver.User, error) {
	var all []keyserver.User
	c := t.bucket(bucketUserNames).Cursor()
	for k, id := c.Seek([]byte(after)); k != nil && len(all) < limit; k, id = c.Next() {
		if string(k) == after {
			continue
		}
		u, err := get[keyserver.User](t.bucket(bucketUsers), id)
		if err == nil && u == nil {
			err = fmt.Errorf("store is damaged: name of a user who is not there")
		}
		if err != nil {
			return nil, err
		}
		all = append(all, *u)
	}
	return all, nil
}

// keys gives the ends of all keys with a prefix.
func (b *bucket) keys(prefix []byte) (ends [][]byte, err error) {
	err = withPrefix(b, prefix, func(rest, _ []byte) (bool, error) {
		ends = append(ends, bytes.Clone(rest))
		return false, nil
	})
	return ends, err
}

// deleteAll removes everything with a prefix.
func (b *bucket) deleteAll(prefix []byte) error {
	ends, err := b.keys(prefix)
	if err != nil {
		return err
	}
	for _, k := range ends {
		if err := b.Delete(join(prefix, k)); err != nil {
			return err
		}
	}
	return nil
}

// DeleteUser leaves entries of the results to Expire, which finds nothing then.
func (t *tx) DeleteUser(id keyserver.UserID) error {
	u, err := t.User(id)
	if err != nil {
		return err
	}
	objects, err := t.bucket(bucketObjects).keys(id[:])
	if err != nil {
		return err
	}
	for _, o := range objects {
		if err := t.DeleteObject(id, keyapi.ObjectID(o)); err != nil {
			return err
		}
	}
	if err := t.bucket(bucketResults).deleteAll(id[:]); err != nil {
		return err
	}
	if u != nil {
		if err := t.bucket(bucketUserNames).Delete([]byte(u.Name)); err != nil {
			return err
		}
	}
	return t.bucket(bucketUsers).Delete(id[:])
}

// DeleteAccount empties inbox and pool first: their octets and counts are kept
// apart.
func (t *tx) DeleteAccount(a keyapi.Account) error {
	have, err := t.Account(a)
	if err != nil {
		return err
	}
	if err := t.Acknowledge(a, ^uint64(0)); err != nil {
		return err
	}
	key := accountKey(a)
	for _, name := range []string{bucketPool, bucketReferences} {
		if err := t.bucket(name).deleteAll(key); err != nil {
			return err
		}
	}
	if have != nil {
		if err := t.bucket(bucketUserAccounts).Delete(join(have.User[:], key)); err != nil {
			return err
		}
	}
	for _, name := range []string{bucketLastResort, bucketInboxSeq, bucketAccounts} {
		if err := t.bucket(name).Delete(key); err != nil {
			return err
		}
	}
	return nil
}
