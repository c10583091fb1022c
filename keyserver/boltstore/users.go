package boltstore

import (
	"bytes"
	"fmt"

	"github.com/cloudmls/gateway/keyserver"
)

// keyMark is in the meta bucket.
const keyMark = "mark"

func (t *tx) Mark() ([]byte, error) {
	return bytes.Clone(t.bucket(bucketMeta).Get([]byte(keyMark))), nil
}

func (t *tx) PutMark(mark []byte) error {
	return t.bucket(bucketMeta).Put([]byte(keyMark), bytes.Clone(mark))
}

func (t *tx) User(id keyserver.UserID) (*keyserver.User, error) {
	return get[keyserver.User](t.bucket(bucketUsers), id[:])
}

func (t *tx) UserByName(name string) (*keyserver.User, error) {
	id := t.bucket(bucketUserNames).Get([]byte(name))
	if id == nil {
		return nil, nil
	}
	u, err := get[keyserver.User](t.bucket(bucketUsers), id)
	if err == nil && u == nil {
		err = fmt.Errorf("store is damaged: name of a user who is not there")
	}
	return u, err
}

func (t *tx) PutUser(u *keyserver.User) error {
	if err := t.bucket(bucketUserNames).Put([]byte(u.Name), bytes.Clone(u.ID[:])); err != nil {
		return err
	}
	return put(t.bucket(bucketUsers), u.ID[:], u)
}

func (t *tx) Session(id keyserver.SessionID) (*keyserver.Session, error) {
	return decode(t.bucket(bucketSessions).Get(id[:]), decodeSession)
}

func (t *tx) SessionByToken(hash keyserver.Hash) (*keyserver.Session, error) {
	id := t.bucket(bucketTokens).Get(hash[:])
	if id == nil {
		return nil, nil
	}
	return decode(t.bucket(bucketSessions).Get(id), decodeSession)
}

func (t *tx) Sessions(u keyserver.UserID) ([]keyserver.Session, error) {
	var all []keyserver.Session
	err := withPrefix(t.bucket(bucketUserSessions), u[:], func(id, _ []byte) (bool, error) {
		s, err := decode(t.bucket(bucketSessions).Get(id), decodeSession)
		if err == nil && s == nil {
			err = fmt.Errorf("store is damaged: session listed but not there")
		}
		if err == nil {
			all = append(all, *s)
		}
		return false, err
	})
	return all, err
}

// PutSession lists the current token under its generation and forgets the one
// that is MaxOldTokens rotations old.
//
// bbolt keeps the values it is given until the end of the transaction, so they
// are copied where they are part of what belongs to the caller.
func (t *tx) PutSession(s *keyserver.Session) error {
	record, err := encodeSession(s)
	if err != nil {
		return err
	}
	if err := t.bucket(bucketSessions).Put(bytes.Clone(s.ID[:]), record); err != nil {
		return err
	}
	if err := t.bucket(bucketUserSessions).Put(join(s.User[:], s.ID[:]), nil); err != nil {
		return err
	}
	if err := t.bucket(bucketTokens).Put(bytes.Clone(s.Token[:]), bytes.Clone(s.ID[:])); err != nil {
		return err
	}
	listed := t.bucket(bucketSessionTokens)
	if err := listed.Put(join(s.ID[:], num(s.Generation)), bytes.Clone(s.Token[:])); err != nil {
		return err
	}
	if s.Generation < keyserver.MaxOldTokens {
		return nil
	}
	old := join(s.ID[:], num(s.Generation-keyserver.MaxOldTokens))
	if hash := bytes.Clone(listed.Get(old)); hash != nil {
		if err := t.bucket(bucketTokens).Delete(hash); err != nil {
			return err
		}
	}
	return listed.Delete(old)
}

func (t *tx) DeleteSession(id keyserver.SessionID) error {
	s, err := t.Session(id)
	if err != nil || s == nil {
		return err
	}
	var keys, hashes [][]byte
	listed := t.bucket(bucketSessionTokens)
	err = withPrefix(listed, id[:], func(generation, hash []byte) (bool, error) {
		keys = append(keys, join(id[:], generation))
		hashes = append(hashes, bytes.Clone(hash))
		return false, nil
	})
	if err != nil {
		return err
	}
	for i := range keys {
		if err := listed.Delete(keys[i]); err != nil {
			return err
		}
		if err := t.bucket(bucketTokens).Delete(hashes[i]); err != nil {
			return err
		}
	}
	if err := t.bucket(bucketUserSessions).Delete(join(s.User[:], id[:])); err != nil {
		return err
	}
	return t.bucket(bucketSessions).Delete(id[:])
}
